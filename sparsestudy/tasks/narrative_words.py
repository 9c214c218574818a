"""Names and sentence forms of the narratives, frozen with the package: a change here changes every prompt.

No sentence has a comma or a second full stop, so its tokens in a word-level vocabulary are its words and one
mark, and two sentences with as many words are equally long.
"""

from __future__ import annotations

from dataclasses import dataclass


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split("|"))


LOCATIONS = _words(
    """
    Bergen Cusco Dakar Bhopal Krakow Lisbon Nairobi Palermo Quito Seville Tallinn Utrecht Warsaw Yerevan
    Zagreb Antwerp Bogota Cardiff Edinburgh Fresno Glasgow Havana Istanbul Kyoto Leipzig Montreal Oslo
    Phoenix Reykjavik Sapporo Toronto Uppsala Verona Windhoek Xalapa Zurich Algiers Bristol Caracas
    Dublin Houston Izmir Jakarta Lahore Dundee Naples Pretoria Quebec Rabat Santiago Tbilisi Ulsan
    Vienna Wichita Beirut Chicago Dresden Fukuoka Gdansk Helsinki Khartoum Lucknow Nagoya Odessa
    """
)
CHARACTERS = _words(
    """
    Amara Boris Chloe Dmitri Elena Farid Greta Hugo Ingrid Jasper Keiko Lorenzo Mabel Nikhil Olga Pascal
    Quentin Rosalind Stefan Tabitha Umberto Wanda Xavier Yusuf Zelda Agnes Bartholomew Camille Desmond
    Edith Fergus Gideon Harriet Ivan Josephine Kwame Leopold Margot Nadia Oscar Priya Rufus Thaddeus
    Ursula Victor Winifred Yvonne Zachary Beatrix Cedric Dorothy Eugene Felix Gwendolyn Humphrey Isolde
    Juliet Kenneth Lucinda Mustafa Norbert Ophelia Philippa Solveig
    """
)
# An item is an adjective, a material and a thing: "red copper lamp". No adjective begins with a vowel.
ADJECTIVES = _words(
    """
    red blue green white purple crimson tiny huge tall narrow round square flat bent hollow heavy smooth
    jagged glossy dusty striped spotted painted carved folded broken worn bleached fancy strange maroon
    beige gray cracked polished sturdy lopsided gleaming scented braided
    """
)
MATERIALS = _words(
    """
    copper iron silver bronze steel glass crystal clay marble granite jade pearl coral leather wool
    cotton silk linen velvet paper wax bamboo cedar walnut straw rubber canvas ceramic slate plaster
    pewter ebony felt gold birch hazel quartz porcelain denim wicker
    """
)
THINGS = _words(
    """
    lamp bowl mask comb key mirror flute drum goblet spoon bonnet glove ladder clock puppet kite basket
    bottle bracelet brush chair crown flag hammer jar necklace pillow saddle shield whistle violin
    trumpet anchor sword tray helmet teapot cushion umbrella compass
    """
)
TOPICS = _phrases(
    """
    music|old songs|the weather|the next harvest|the price of salt|a lost brother|cold winters|
    the storm at sea|good bread|life in the hills|distant cousins|horses|a forgotten recipe|
    the length of the bridge|new taxes|gardens|the quarrel of two neighbors|sleepless nights|
    a wedding in spring|the best way to cook fish
    """
)
SETTINGS = _phrases(
    """
    again|at noon|near the river|under an old tree|for the rest of the day|all night|before dawn|
    on the way to the hills|behind the station|in spite of the cold|once more|on a wooden bench|
    while the lights went out|after a short walk|without a break|until the last guests had gone|
    by candlelight|across the yard
    """
)

ARRIVALS = (
    "Rowan reached {place}.",
    "Rowan came to {place}.",
    "Rowan arrived in {place}.",
    "The road led Rowan to {place}.",
    "A slow train took Rowan to {place}.",
    "Rowan stopped in {place} for the night.",
    "Next Rowan stayed in {place}.",
    "In the morning Rowan entered {place}.",
    "Rowan spent the day in {place}.",
    "The next stop of Rowan was {place}.",
)
MEETINGS = (
    "Rowan met {person}.",
    "{person} greeted Rowan.",
    "There {person} waited for Rowan.",
    "Rowan sat down near {person}.",
    "At the market Rowan met {person}.",
    "{person} came up to Rowan.",
    "A friend led Rowan to {person}.",
    "Rowan stopped at the house of {person}.",
    "On the way {person} walked into Rowan.",
    "Rowan shook hands with {person}.",
)
PURCHASES = (
    "Rowan bought a {item}.",
    "Rowan purchased a {item}.",
    "Rowan acquired the {item} at the market.",
    "Rowan paid six coins for the {item}.",
    "With the last coins Rowan bought the {item}.",
    "Rowan got a {item} for a good price.",
    "After a long walk Rowan purchased the {item}.",
    "The {item} cost Rowan six coins.",
    "In the end Rowan acquired a {item}.",
)
SALES = (
    "Rowan sold a {item}.",
    "Rowan sold the {item}.",
    "Rowan handed over the {item} for six coins.",
    "A merchant paid Rowan for the {item}.",
    "At the market Rowan sold a {item}.",
    "Rowan let a {item} go for a good price.",
    "The {item} of Rowan went to a merchant.",
)
# As many words as a purchase has: 6, 8, 9 or 10.
OFFERS = (
    "Rowan admired the {item}.",
    "Rowan refused a {item}.",
    "A merchant showed Rowan the {item}.",
    "Rowan only looked at the {item}.",
    "In the end Rowan refused the {item}.",
    "At the market Rowan admired a {item}.",
    "After a long walk Rowan admired the {item}.",
    "Rowan refused the {item} for a good price.",
)
# What fills a chapter. Those without a person may stand before the meeting.
QUIET = (
    "Rain fell",
    "The wind grew cold",
    "Rowan rested",
    "Rowan ate soup",
    "A dog slept",
    "Children sang old songs",
    "Rowan wrote a long letter",
    "Nobody knew the way",
    "Smoke rose from the houses",
    "Rowan mended a torn coat",
    "The streets stayed empty",
    "Rowan thought about {topic}",
    "Rowan read a book about {topic}",
    "The sun came out",
    "Fog covered the fields",
    "Two cats fought",
    "A door slammed",
    "Someone played the piano",
    "The clouds turned dark",
    "Rowan drank tea",
    "Rowan slept badly",
    "Rowan counted the stars",
    "Rowan walked in circles",
    "Rowan studied old maps",
    "Rowan dreamed of {topic}",
    "A stranger sang about {topic}",
    "A newspaper wrote about {topic}",
    "The shops closed early",
    "Rowan washed two shirts",
    "Snow covered the roofs",
    "Rowan watched the boats",
    "The coffee tasted bitter",
)
TALK = (
    "{person} talked about {topic}",
    "{person} asked Rowan about {topic}",
    "{person} told a story about {topic}",
    "Rowan laughed with {person}",
    "Rowan listened to {person}",
    "{person} knew a song about {topic}",
    "{person} cooked soup for Rowan",
    "Rowan asked {person} about {topic}",
    "{person} remembered {topic} well",
    "{person} smiled",
    "{person} laughed",
    "{person} yawned",
    "{person} complained about {topic}",
    "{person} whispered something about {topic}",
    "{person} poured tea for Rowan",
    "{person} drew a map for Rowan",
    "Rowan thanked {person}",
    "Rowan argued with {person} about {topic}",
    "{person} promised to write",
    "{person} described {topic} in detail",
    "Rowan and {person} talked about {topic}",
    "{person} told Rowan a joke",
    "Rowan helped {person} in the kitchen",
    "{person} worried about {topic}",
)


@dataclass(frozen=True)
class Words:
    """What a narrative draws from; its facts are told in the same forms whatever the pool."""

    locations: tuple[str, ...]
    characters: tuple[str, ...]
    adjectives: tuple[str, ...]
    materials: tuple[str, ...]
    things: tuple[str, ...]
    topics: tuple[str, ...]
    settings: tuple[str, ...]
    quiet: tuple[str, ...]
    talk: tuple[str, ...]


WORDS = {
    "full": Words(LOCATIONS, CHARACTERS, ADJECTIVES, MATERIALS, THINGS, TOPICS, SETTINGS, QUIET, TALK),
    # Pairs of a place and a person for 32k tokens of short chapters, and items for as many purchases.
    "ladder": Words(
        LOCATIONS[:36],
        CHARACTERS[:36],
        ADJECTIVES[:30],
        MATERIALS[:30],
        THINGS[:30],
        TOPICS[:10],
        SETTINGS[:8],
        QUIET[:13],
        TALK[:10],
    ),
}
