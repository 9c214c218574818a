"""Word lists and filler sentences, frozen with the package: a change here changes every prompt."""

from __future__ import annotations

import random

ADJECTIVES = tuple(
    """amber ancient blue brass bright broken calm clever cold crimson crystal curious dark dusty early
    eastern empty faded fancy flat fragile gentle giant glass golden grand gray green heavy hidden hollow humble
    iron ivory jolly large lazy little lonely loud lucky marble mellow metal modern narrow neat noble northern
    old orange painted pale paper patient plain polished proud purple quick quiet rapid rare red round royal
    rusty scarlet secret sharp shiny short silent silver simple slender small smooth soft solid southern square
    steady stone strange striped sturdy sunny sweet tall tender thin tiny violet warm western white wide wild
    wise wooden yellow young""".split()
)
NOUNS = tuple(
    """anchor apple arrow barrel basket bell bench bicycle blanket boat bottle bridge bucket button cabin camera
    candle canoe carpet castle cellar chair chest clock closet compass copper cottage cradle crown cup curtain
    desk door drawer drum engine envelope fence feather flag flute fountain garden gate glove guitar hammer
    harbor hat helmet horse hotel island jacket jar kettle key kitchen kite ladder lamp lantern letter library
    locker lodge machine map market mill mirror museum needle office oven paddle parcel pencil piano pillow
    pillar pocket pond porch printer quilt radio ribbon river robot rocket saddle school shelf ship shovel
    spoon stable statue stove studio suitcase table teapot temple tent theater tower train trunk tunnel vault
    vessel village violin wagon wallet warehouse watch well wheel window workshop""".split()
)
PERSONS = tuple(
    f"a {person}"
    for person in """baker carpenter child clerk doctor driver farmer fisher gardener guard merchant miner musician
    nurse painter pilot porter sailor singer student tailor teacher traveler waiter writer""".split()
)
VERBS = tuple(
    """admired borrowed carried cleaned copied described drew examined found forgot guarded hid inspected lifted
    measured mentioned moved noticed opened painted passed photographed polished praised repaired returned
    sketched sold touched visited watched wrapped""".split()
)
SETTINGS = (
    "across the street", "after the storm", "at dawn", "at noon", "before breakfast", "behind the wall",
    "below the hill", "beside the road", "by the lake", "during the fair", "in the afternoon", "in the morning",
    "near the coast", "near the station", "on a cold evening", "on the way home", "outside the city",
    "over the weekend", "past midnight", "under the bridge", "while it rained", "without a word",
    "with great care", "for the second time", "as usual", "once again",
)
SHORT = ("It rained.", "Time passed.", "Nobody spoke.", "Birds sang.", "All was calm.", "Leaves fell.")


def filler(rng: random.Random) -> str:
    """One sentence that holds no fact a task asks for."""
    thing = f"the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    person, verb, setting = rng.choice(PERSONS), rng.choice(VERBS), rng.choice(SETTINGS)
    form = rng.randrange(4)
    if form == 0:
        return f"{setting[0].upper()}{setting[1:]}, {person} {verb} {thing}."
    if form == 1:
        return f"{person[0].upper()}{person[1:]} {verb} {thing} {setting}."
    if form == 2:
        other = f"the {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
        return f"{thing[0].upper()}{thing[1:]} stood next to {other} {setting}."
    return f"{setting[0].upper()}{setting[1:]}, {thing} was {verb} by {person}."
