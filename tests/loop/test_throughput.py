from trainer.loop.throughput import Throughput


def test_the_first_two_intervals_are_left_out() -> None:
    speed = Throughput()
    for tokens, seconds in [(100, 50.0), (100, 25.0), (100, 1.0), (300, 2.0), (100, 0.5)]:
        speed.add(tokens, seconds)

    assert speed.median() == 150.0


def test_the_speed_is_unknown_until_an_interval_after_the_warm_up() -> None:
    speed = Throughput()
    before_any = speed.median()
    speed.add(100, 1.0)
    speed.add(100, 1.0)

    assert before_any is None
    assert speed.median() is None


def test_one_slow_interval_does_not_move_the_median() -> None:
    speed = Throughput()
    for seconds in [9.0, 9.0, 1.0, 1.0, 600.0, 1.0, 1.0]:
        speed.add(100, seconds)

    assert speed.median() == 100.0
