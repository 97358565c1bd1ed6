from ops.restarts import RestartPolicy, Restarts


def test_delays_grow_up_to_their_limit() -> None:
    restarts = Restarts(RestartPolicy(limit=5, first_delay_seconds=0.5, longest_delay_seconds=3.0))
    assert [restarts.delay_after_death(float(second)) for second in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_process_that_keeps_dying_is_given_up() -> None:
    restarts = Restarts(RestartPolicy(limit=2, window_seconds=60))
    assert restarts.delay_after_death(0.0) is not None
    assert restarts.delay_after_death(1.0) is not None
    assert restarts.delay_after_death(59.9) is None


def test_deaths_before_the_window_are_forgiven() -> None:
    restarts = Restarts(RestartPolicy(limit=2, window_seconds=60, first_delay_seconds=0.1))
    restarts.delay_after_death(0.0)
    restarts.delay_after_death(1.0)
    assert restarts.delay_after_death(61.0) == 0.1
