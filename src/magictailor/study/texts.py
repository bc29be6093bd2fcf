"""The texts that a new study starts with; its `study.toml` holds them, to be changed there."""

from magictailor.study.design import Question

TITLE = "Which picture is best?"
WELCOME = """\
Some programs learn a subject and a part of another one from a few photos, and then generate new pictures of the subject with that part. \
This study asks people which of these pictures are good.

You will see {screens} screens. Each shows a description, some photos, and {shown} pictures, and asks {questions} questions. It takes about \
{minutes} minutes. You can stop at any time and continue later."""
INSTRUCTIONS = """\
Read the description, look at the photos next to it, and compare the pictures. Click on a picture to see it larger. Then answer each \
question by choosing one picture.

There is no right or wrong: choose what you think. The pictures are in no particular order."""
CONSENT = """\
We keep your choices, how long each took, when you gave them and when you agreed, under a random number. We do not keep your name, your \
address or your device's address. One cookie, or this browser's own storage, holds the random number, so that you can continue later.

Taking part is voluntary. At the end you see your number; if you send it to us, we remove your answers."""
THANKS = "Your answers help to find out which methods work. Thank you for your time."

TEXT = Question(name="text", title="text alignment", text="Which picture shows best what the description says?")
IDENTITY = Question(
    name="identity",
    title="identity fidelity",
    text="In which picture do the subject and the part look most like those in the photos?",
)
QUALITY = Question(
    name="quality",
    title="generation quality",
    text="Which picture is generated best, without errors and unnatural parts?",
)
CONCEPT = Question(
    name="concept",
    title="concept identity",
    text="In which picture does the subject look most like that in its photos?",
)
COMPONENT = Question(
    name="component",
    title="component identity",
    text="In which picture does the part look most like that in its photos?",
)
QUESTIONS: dict[str, tuple[Question, ...]] = {
    "paper": (TEXT, IDENTITY, QUALITY),
    "fine": (TEXT, CONCEPT, COMPONENT, QUALITY),
}
SECONDS_AN_ANSWER = 8  # for the estimate in the welcome


def welcome(screens: int, shown: int, questions: int) -> str:
    """``screens``: all of them; ``shown``: pictures to choose from on each."""
    words = {2: "two", 3: "three", 4: "four", 5: "five", 6: "six"}
    minutes = max(1, round(screens * questions * SECONDS_AN_ANSWER / 60))
    return WELCOME.format(
        screens=screens, shown=words.get(shown, shown), questions=words.get(questions, questions), minutes=minutes
    )
