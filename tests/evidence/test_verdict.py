"""What to ship: made-up numbers of every case, and the sentence that a reader should find."""

import dataclasses

import pytest

from mixnet_tf.evidence.verdict import Facts, judge
from mixnet_tf.metrics import Accuracy, Loss

FLOAT, INT8 = "model_float32.tflite", "model_int8.tflite"
FACTS = Facts(
    float_file=FLOAT,
    int8_file=INT8,
    count=5000,
    top1=Accuracy(value=0.8, low=0.79, high=0.81),
    commonest=0.1,
    loss=Loss(value=0.001, low=-0.001, high=0.003),
    size=3.3,
    speed=2.4,
    float_ms=3.0,
)


def loss(value: float, low: float, high: float) -> dict:
    return {"loss": Loss(value=value, low=low, high=high)}


def top1(value: float, low: float, high: float) -> dict:
    return {"top1": Accuracy(value=value, low=low, high=high)}


CASES = {
    "all is well": (
        {},
        INT8,
        f"Ship {INT8}: the same accuracy within 0.3 points, 3.3 times smaller and 2.4 times faster than float32.",
    ),
    "a tie in everything": (
        {**loss(0, -0.004, 0.004), "size": 1.0, "speed": 1.0},
        FLOAT,
        f"Ship {FLOAT}: int8 is neither smaller nor faster.",
    ),
    "a tie in accuracy on many images": (
        loss(0, -0.00001, 0.00001),
        INT8,
        f"Ship {INT8}: the same accuracy within 0.1 points, 3.3 times smaller and 2.4 times faster than float32.",
    ),
    "int8 is right more often": (
        loss(-0.02, -0.03, -0.01),
        INT8,
        f"Ship {INT8}: at least the accuracy of float32, 3.3 times smaller and 2.4 times faster than float32.",
    ),
    "a loss that is certain and small": (
        loss(0.006, 0.0042, 0.0078),
        INT8,
        f"Ship {INT8}: 0.6 points less accurate (0.4 to 0.8), 3.3 times smaller and 2.4 times faster than float32.",
    ),
    "a loss that is certain and all but nothing": (
        loss(0.0004, 0.0001, 0.0007),
        INT8,
        f"Ship {INT8}: less than 0.1 points less accurate (0.0 to 0.1), 3.3 times smaller and 2.4 times faster than "
        "float32.",
    ),
    "a loss": (
        loss(0.032, 0.0184, 0.0456),
        FLOAT,
        f"Ship {FLOAT} for now: int8 loses 3.2 points of accuracy (1.8 to 4.6).",
    ),
    "a loss, and slower": (
        {**loss(0.032, 0.0184, 0.0456), "speed": 0.5},
        FLOAT,
        f"Ship {FLOAT}: int8 loses 3.2 points of accuracy (1.8 to 4.6) and is no faster.",
    ),
    "a loss, and the same speed": (
        {**loss(0.032, 0.0184, 0.0456), "speed": 1.01},
        FLOAT,
        f"Ship {FLOAT}: int8 loses 3.2 points of accuracy (1.8 to 4.6) and is no faster.",
    ),
    "too few images": (
        {**loss(0.01, -0.03, 0.05), "count": 100},
        None,
        "Not decided: 100 test images are too few to tell. int8 may lose up to 5.0 points of accuracy; it is 3.3 times "
        "smaller and 2.4 times faster.",
    ),
    "too few images, but slower": (
        {**loss(0.01, -0.03, 0.05), "speed": 0.8, "float_ms": 0.2},
        FLOAT,
        f"This network is so small that int8 does not pay: ship {FLOAT}. int8 takes 1.2 times as long.",
    ),
    "a tiny network": (
        {"speed": 0.5, "float_ms": 0.99},
        FLOAT,
        f"This network is so small that int8 does not pay: ship {FLOAT}. int8 takes 2.0 times as long.",
    ),
    "a large network, slower": (
        {"speed": 0.5, "float_ms": 1.0},
        FLOAT,
        f"On this processor int8 does not pay: ship {FLOAT}. int8 takes 2.0 times as long.",
    ),
    "the same speed": (
        {"speed": 0.96},
        INT8,
        f"Ship {INT8}: the same accuracy within 0.3 points, 3.3 times smaller than float32, and as fast.",
    ),
    "faster and larger": (
        {"size": 0.8},
        INT8,
        f"Ship {INT8}: the same accuracy within 0.3 points, 1.2 times larger and 2.4 times faster than float32.",
    ),
    "faster and as large": (
        {"size": 1.0},
        INT8,
        f"Ship {INT8}: the same accuracy within 0.3 points, no smaller and 2.4 times faster than float32.",
    ),
    "nothing was timed": (
        {"speed": None, "float_ms": None},
        INT8,
        f"Ship {INT8}: the same accuracy within 0.3 points, 3.3 times smaller than float32; nothing was timed.",
    ),
    "nothing was timed, and larger": (
        {"speed": None, "float_ms": None, "size": 0.9},
        FLOAT,
        f"Ship {FLOAT}: int8 is not smaller, and nothing was timed.",
    ),
    "a network that learned nothing": (
        top1(0.1, 0.09, 0.11),
        None,
        "Ship neither file: the network is right on 10.0% of the test images, no more often than always guessing the "
        "most frequent class (10.0%).",
    ),
    "too few images to tell from a guess": (
        {**top1(0.5, 0.08, 0.92), "count": 6},
        None,
        "Not decided: 6 test images are too few to tell the network from one that always guesses the most "
        "frequent class.",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_case_and_its_sentence(name):
    changes, ship, sentence = CASES[name]
    verdict = judge(dataclasses.replace(FACTS, **changes))
    assert (verdict.ship, verdict.sentence) == (ship, sentence)


def test_missing_numbers():
    verdict = judge(None)
    assert verdict.ship is None and verdict.advice == ()
    assert verdict.sentence == "Not decided: int8 and float32 were not compared on the same images."


@pytest.mark.parametrize("facts", [FACTS, None])
def test_a_missing_test_split_is_told_in_every_case(facts):
    advice = judge(facts, test_is_val=True).advice
    assert advice[-1].startswith("The data has no test split: its val stood in, which also chose the best epoch")
    assert advice[:-1] == judge(facts).advice


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        (loss(0.032, 0.0184, 0.0456), "The recipe int8_mixed keeps the blocks that lose most in float32"),
        (
            {"speed": 0.5, "float_ms": 0.5},
            f"Where the size of the file matters more than its speed: {INT8} is 3.3 times",
        ),
        ({"speed": 0.5}, f"Where the size of the file matters more than its speed: {INT8} is 3.3 times"),
        ({"speed": None, "float_ms": None}, "mixnet-tf benchmark times the files"),
        (top1(0.1, 0.09, 0.11), "Train for more epochs"),
        (top1(0.5, 0.08, 0.92), "Measure again on more test images"),
    ],
)
def test_what_to_do(changes, start):
    assert any(advice.startswith(start) for advice in judge(dataclasses.replace(FACTS, **changes)).advice)
    assert not any(advice.startswith(start) for advice in judge(FACTS).advice)


def test_how_good_the_network_is_in_the_first_place():
    """Whatever int8 keeps of it: nobody should ship what is right on one image in five unawares."""
    assert judge(FACTS).advice == ("In float32 the network is right on 80.0% of 5,000 test images.",)


def test_int8_mixed_is_for_what_loses_and_is_fast():
    lost = loss(0.032, 0.0184, 0.0456)
    mixed = [judge(dataclasses.replace(FACTS, **changes)).mixed for changes in (lost, {**lost, "speed": 0.5}, {})]
    assert mixed == [True, False, False]


def test_how_many_images_would_decide():
    """Half the width needs four times the images: 3 points on 100 become the missing 1.5 on 400."""
    few = dataclasses.replace(FACTS, count=100, **loss(0.005, -0.025, 0.035))
    assert judge(few).advice[1:] == ("About 400 test images would decide.",)
    lucky = dataclasses.replace(FACTS, count=100, **loss(-0.01, -0.07, 0.05))  # 6 points, of which 3 are allowed
    assert judge(lucky).advice[1:] == ("About 400 test images would decide.",)
