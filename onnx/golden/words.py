"""Words for made-up captions."""

THINGS = """
cat dog bird horse boat train house tree child woman man bicycle cake flower river mountain elephant giraffe
zebra sheep cow bear truck bus car airplane kite surfboard skateboard umbrella suitcase bottle glass fork spoon
bowl banana apple sandwich orange pizza chair couch bed table laptop keyboard phone oven sink clock vase
scissors bridge lighthouse castle market harbour island forest desert tractor guitar violin piano drum statue
fountain lantern window door roof candle basket blanket hat scarf glove boot ring mirror book letter map coin
key rope ladder tent wheel
""".split()
PLACES = [
    "on a table",
    "in the snow",
    "near the water",
    "under a bridge",
    "in a small garden",
    "at night",
    "on the street",
    "beside a wall",
    "by the sea",
    "inside a museum",
    "on top of a hill",
    "behind glass",
    "in heavy rain",
    "in front of a shop",
    "at the station",
    "in a kitchen",
    "on a wooden floor",
    "between tall buildings",
    "during sunset",
    "in black and white",
    "from above",
    "through a window",
]
LOOKS = """
red old small black white happy sleeping broken wooden blurry shiny green yellow purple tiny huge empty crowded
wet dusty bright dark colorful transparent rusty golden striped spotted round square folded painted frozen
burning
""".split()
ACTIONS = """
running jumping eating waiting flying swimming standing leaning spinning falling resting climbing hiding
carrying watching holding pulling pushing drinking singing
""".split()
COUNTS = ["a", "one", "two", "three", "several", "many", "a pair of", "a group of", "12", "no"]
FORMS = [
    "a photo of a {look} {thing} {place}",
    "the {thing} is {look} and {action} {place}",
    "{count} {look} {thing}s {action} {place}",
    "close up of a {thing} with a {look} {other}",
    "a {thing} {action} next to a {other}",
]


def caption(generator) -> str:
    """One made-up caption; `generator` is a random.Random."""
    return generator.choice(FORMS).format(
        thing=generator.choice(THINGS),
        other=generator.choice(THINGS),
        place=generator.choice(PLACES),
        look=generator.choice(LOOKS),
        action=generator.choice(ACTIONS),
        count=generator.choice(COUNTS),
    )
