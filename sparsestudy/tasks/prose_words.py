"""The names, places, times and numbers of the shipped novels, and the clauses that questions are made of."""

from __future__ import annotations

import re
from typing import Literal

Form = Literal["says", "who", "whose", "missing"]
Kind = Literal["person", "place", "time", "number", "word"]

_GIVEN = (
    "Elinor|Marianne|Anne|Edward|Willoughby|Lucy|Mary|Louisa|Charles|Elizabeth|Henrietta|Fanny|Margaret|"
    "Robert|Frederick|Charlotte|Nancy|Eliza|Sophia|Sophy|Benwick|Richard|Harry|Thomas|Sally|James|Walter|"
    "Jemima|Penelope|Betty|Cartwright"
)
_TITLE = r"(?:(?:Mr|Mrs|Dr)\.?|Miss|Sir|Lady|Colonel|Captain|Admiral|Nurse)"
PERSON = rf"(?:{_TITLE} [A-Z][a-z]+(?: [A-Z][a-z]+)?|(?:{_GIVEN})\b(?: [A-Z][a-z]+)?)"
PLACE = (
    r"(?:(?:Barton|Kellynch|Uppercross|Norland|Delaford|Camden|Laura|Harley|Berkeley|Conduit|Rivers|Union|"
    r"Milsom|Bond|Westgate|Marlborough|Combe|East|West|North|Portman|Sackville|Gay|Bartlett's|Holborn) "
    r"(?:Park|Hall|Cottage|Lodge|House|Place|Street|Square|Buildings|Magna|Indies|Yarmouth|Great House)|Bath|"
    r"Barton|Uppercross|Lyme|Norland|London|Kellynch|Devonshire|Cleveland|Delaford|Allenham|Exeter|Plymouth|"
    r"Somersetshire|Sussex|Oxford|Winthrop|Monkford|Longstaple|Taunton|Dorsetshire|Whitwell|Shropshire|"
    r"Portsmouth|Gibraltar|Dawlish|England|Bristol|Newton|Crewkherne|Ramsgate|Bermuda|Lisbon|Weymouth|"
    r"Honiton|Avignon|Windsor|Charmouth|Pinny|Scotland|Magna|Cheshire|Ireland)"
)
TIME = (
    r"(?:January|February|March|April|June|July|August|September|October|November|December|Michaelmas|"
    r"Christmas|Easter|Sunday|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday)"
)
# "Two" alone is left out: it would be the answer to a third of the questions about numbers.
_UNIT = (
    "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|fifteen|sixteen|seventeen|"
    "eighteen|nineteen|twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety"
)
NUMBER = rf"(?!two\b(?! hundred| thousand))(?:{_UNIT})(?:[ -](?:and[ -])?(?:{_UNIT}|one|hundred|thousand)\b)*"
PATTERNS: dict[Kind, re.Pattern[str]] = {
    "person": re.compile(rf"\b{PERSON}(?![a-z-])"),
    "place": re.compile(rf"\b{PLACE}(?![a-z-])"),
    "time": re.compile(rf"\b{TIME}(?![a-z-])"),
    "number": re.compile(rf"\b{NUMBER}(?![a-z-])"),
    "word": re.compile(r"(?<![\w-])[a-z]{7,}(?![\w-])"),
}
_VERB = (
    r"(?:was|had|could|would|did|must|might|should|has|is|will|[a-z]+ed|saw|felt|made|came|found|thought|"
    r"gave|heard|took|told|began|knew|sat|spoke|went|left|got|drew|kept|rose|never|soon|always|only)"
)
_SAYS = r"(?:said|cried|replied|answered|exclaimed|repeated|returned|continued|rejoined|added|observed)"
# A clause: at the beginning of a sentence, or behind a sign or "and" that parts it from another.
_BEGIN = r"(?:^|(?<=[;:] )|(?<=--)|(?<=, and )|(?<=, but )|(?<=; and )|(?<=; but ))"
CLAUSES: dict[Form, re.Pattern[str]] = {
    "who": re.compile(rf"{_BEGIN}({PERSON}) ({_VERB}\b[^\";:]*)"),
    "whose": re.compile(
        rf"{_BEGIN}({PERSON})'s? ([a-z][^\",;:]* (?:was|were|is|had|could|would|[a-z]+ed)\b[^\";:]*)"
    ),
}
# Who speaks, behind what is said or before it.
SAID = re.compile(rf"\"(?P<quote>[^\"]+?)[,!?]?\" {_SAYS} (?P<name>{PERSON})(?![a-z'-])")
SAYS = re.compile(rf"(?:{_SAYS} (?P<name>{PERSON})|(?P<before>{PERSON}) {_SAYS})[,;:] \"(?P<quote>[^\"]+)")
LETTERS = re.compile(r"[a-z]+")
COMMON = frozenset(
    LETTERS.findall(
        "about after again all also always and any are been before being but can could did does each else "
        "ever every for from had has have having her here hers herself him himself his how however into "
        "its itself just like made make many may might more most much must never not nothing now off only "
        "other others our out over own quite rather said same shall she should since some soon such than "
        "that the their them themselves then there these they this those though through too under upon "
        "very was well were what when where whether which while who whom whose will with without would "
        "yet you your"
    )
)
# What a question about a gap begins with.
ASKS: dict[Kind, str] = {
    "person": "Which name",
    "place": "Which place",
    "time": "Which day, month or feast",
    "number": "Which number",
    "word": "Which word",
}
