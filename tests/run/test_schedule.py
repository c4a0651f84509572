"""Every group is handed out once, within the memory, and none waits for ever."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastlung.plan.model import Setting
from fastlung.run.schedule import Dispatcher

BUDGET = 1000


@dataclass(frozen=True, kw_only=True)
class Group:
    name: int
    need_bytes: int
    source_bytes: int = 10


def groups(*needs, **options):
    return [Group(name=name, need_bytes=need, **options) for name, need in enumerate(needs)]


def setting(workers, ahead_bytes=0):
    return Setting(workers=workers, ahead_bytes=ahead_bytes, requests=8)


def dispatcher(workers, *needs, ahead_bytes=0, closed=True, **options):
    found = Dispatcher(
        setting(workers, ahead_bytes), **{"budget_bytes": BUDGET, "longest_chunk": 8, **options}
    )
    found.add(groups(*needs))
    if closed:
        found.close()
    return found


def names(chunk):
    return [handed.task.name for handed in chunk]


def begin_all(dispatch, worker, chunk):
    for handed in chunk:
        dispatch.began(worker, handed.number)


def end_all(dispatch, worker, chunk):
    return [dispatch.ended(worker, handed.number) for handed in chunk]


def test_the_largest_goes_first_and_alike_ones_as_they_came():
    dispatch = dispatcher(1, 100, 300, 101, 300, 200)
    order = []
    while chunk := dispatch.take(0):
        order += names(chunk)
        begin_all(dispatch, 0, chunk)
        end_all(dispatch, 0, chunk)
    assert order == [1, 3, 4, 0, 2]
    assert dispatch.over


def test_a_worker_gets_more_before_it_is_idle_and_no_more_than_may_be_read_ahead():
    dispatch = dispatcher(2, *[100] * 100, ahead_bytes=25)
    first = dispatch.take(0)
    assert len(first) == 4  # one to compute, and the last begins below 25 bytes ahead
    assert dispatch.take(0) == ()
    dispatch.began(0, first[0].number)
    assert dispatch.take(0) == ()
    dispatch.began(0, first[1].number)
    assert len(dispatch.take(0)) == 1
    assert len(dispatcher(2, *[100] * 100, ahead_bytes=500).take(0)) == 8


def test_chunks_shrink_and_the_last_groups_wait_for_whoever_is_idle():
    dispatch = dispatcher(2, *[10] * 20, ahead_bytes=300)
    sizes, holder = [], 0
    while dispatch.pending > 1:
        chunk = dispatch.take(holder)
        sizes.append(len(chunk))
        begin_all(dispatch, holder, chunk)
        holder = 1 - holder
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (5, 1)
    assert dispatch.take(0) == dispatch.take(1) == ()
    assert len(dispatch.take(2)) == 1  # a new worker is idle


def test_nobody_is_given_what_does_not_fit_and_it_is_not_postponed_for_ever():
    dispatch = dispatcher(4, *[200] * 40, closed=False)
    running = {worker: dispatch.take(worker) for worker in range(4)}
    dispatch.add(groups(900))
    waited = 0
    while not any(handed.task.need_bytes == 900 for chunk in running.values() for handed in chunk):
        worker = min((w for w in running if running[w]), key=lambda w: running[w][0].number)
        end_all(dispatch, worker, running[worker])
        running[worker] = dispatch.take(worker)
        waited += 1
        assert waited <= 4  # what ran when it came, and nothing that would not fit beside it
    assert dispatch.charged_bytes == 900


def test_a_large_one_runs_with_as_many_others_as_fit_beside_it():
    dispatch = dispatcher(4, 600, 500, *[200] * 10)
    assert [names(dispatch.take(worker)) for worker in range(4)] == [[0], [2], [3], []]
    dispatch.ended(0, 0)
    assert names(dispatch.take(0)) == [1]


def test_what_exceeds_the_budget_and_what_did_harm_runs_alone_at_the_end():
    dispatch = dispatcher(2, 2000, 100, 100)
    first, second = dispatch.take(0), dispatch.take(1)
    assert names(first) + names(second) == [1, 2]
    dispatch.retry_alone(dispatch.lost(0)[0])
    assert dispatch.take(0) == ()  # the other one still runs
    end_all(dispatch, 1, second)
    alone = dispatch.take(1)
    assert (names(alone), alone[0].alone, alone[0].allowed_bytes) == ([0], True, BUDGET)
    assert dispatch.take(0) == ()
    end_all(dispatch, 1, alone)
    assert names(dispatch.take(0)) == [1]
    assert not dispatch.over
    dispatch.lost(0)
    assert dispatch.over


def test_measured_memory_corrects_what_is_predicted():
    dispatch = dispatcher(8, *[250] * 400)
    chunk = dispatch.take(0)
    dispatch.ended(0, chunk[0].number, peak_bytes=500)
    taken = [dispatch.take(worker) for worker in range(8)]
    assert sum(map(bool, taken)) == 1  # another one would make 2 x 250 x 2.1
    assert dispatch.charged_bytes == pytest.approx(525)

    thrifty = dispatcher(8, *[250] * 4000, longest_chunk=1)
    for _ in range(200):
        (handed,) = thrifty.take(0)
        thrifty.ended(0, handed.number, peak_bytes=150)
    assert thrifty.correction == pytest.approx(0.63)
    assert sum(bool(thrifty.take(worker)) for worker in range(8)) == 6
    assert thrifty.charged_bytes <= BUDGET


def test_a_need_known_better_counts_at_once():
    dispatch = dispatcher(3, *[200] * 30)
    (handed,) = dispatch.take(0)
    dispatch.began(0, handed.number, need_bytes=700)
    assert dispatch.charged_bytes == 700
    assert dispatch.take(1)
    assert not dispatch.take(2)


def test_more_and_fewer_workers():
    dispatch = dispatcher(1, *[100] * 64, ahead_bytes=80)
    assert len(dispatch.take(0)) == 8
    dispatch.resize(setting(16, ahead_bytes=0))
    assert len(dispatch.take(1)) == 1
    assert dispatch.charged_bytes == 200
    dispatch.resize(setting(1, ahead_bytes=50))
    assert dispatch.charged_bytes == 250


def test_after_a_stop_nothing_is_handed_out():
    dispatch = dispatcher(2, *[100] * 10, 3000)
    chunk = dispatch.take(0)
    dispatch.stop()
    assert dispatch.take(1) == ()
    task = dispatch.ended(0, chunk[0].number)
    dispatch.retry_alone(task)
    dispatch.add([task])
    assert dispatch.over == (len(chunk) == 1)


@st.composite
def histories(draw):
    """Groups in portions, and what happens to them, by number."""
    need = st.integers(1, 1300)
    portions = draw(st.lists(st.lists(need, max_size=12), min_size=1, max_size=4))
    return (
        portions,
        draw(st.integers(1, 6)),
        draw(st.integers(0, 40)),
        draw(st.randoms(use_true_random=False)),
    )


@given(histories())
def test_nothing_is_lost_nothing_is_done_twice_and_memory_is_kept(history):
    portions, workers, ahead_bytes, chance = history
    portions = list(portions)
    dispatch = dispatcher(workers, closed=False, ahead_bytes=ahead_bytes)
    holding = {worker: [] for worker in range(workers)}
    done, suspects, names_given = [], set(), 0
    for _ in range(5000):
        if dispatch.over:
            break
        if portions and chance.random() < 0.2:
            portion = portions.pop()
            dispatch.add(
                Group(name=names_given + number, need_bytes=need)
                for number, need in enumerate(portion)
            )
            names_given += len(portion)
        elif not portions:
            dispatch.close()
        worker = chance.randrange(workers)
        chunk = dispatch.take(worker)
        holding[worker] += chunk
        busy = [hands for hands in holding.values() if hands]
        if chunk:
            assert dispatch.charged_bytes <= BUDGET or len(busy) == 1
            worst = sum(max(h.task.need_bytes for h in hands) for hands in busy)
            assert worst <= BUDGET or len(busy) == 1
            assert not any(h.alone for hands in busy for h in hands) or len(busy) == 1
        if not holding[worker]:
            continue
        if chance.random() < 0.1:
            given_back = dispatch.lost(worker)
            assert given_back == tuple(handed.task for handed in holding[worker])
            guilty, *others = given_back
            dispatch.add(others)
            holding[worker] = []
            if guilty.name in suspects:
                done.append(guilty.name)
            else:
                suspects.add(guilty.name)
                dispatch.retry_alone(guilty)
        else:
            handed = holding[worker].pop(0)
            dispatch.began(worker, handed.number)
            done.append(dispatch.ended(worker, handed.number).name)
    assert dispatch.over
    assert sorted(done) == list(range(names_given))
    assert (dispatch.pending, dispatch.held, dispatch.charged_bytes) == (0, 0, 0)


@given(st.integers(500, 1000), st.integers(1, 6), st.integers(0, 40), st.randoms())
def test_a_large_one_in_an_endless_stream_of_small_ones_has_its_turn(
    large, workers, ahead_bytes, chance
):
    dispatch = dispatcher(workers, closed=False, ahead_bytes=ahead_bytes)
    dispatch.add(groups(*[chance.randint(1, 400) for _ in range(200)]))
    holding = {worker: list(dispatch.take(worker)) for worker in range(workers)}
    before = {handed.number for hands in holding.values() for handed in hands}
    dispatch.add([Group(name=-1, need_bytes=large)])
    while not any(handed.task.name == -1 for hands in holding.values() for handed in hands):
        dispatch.add(groups(chance.randint(1, 400)))
        # Whoever began first ends first, so that all which ran when it came has an end.
        busy = [worker for worker in holding if holding[worker]]
        worker = min(busy, key=lambda worker: holding[worker][0].number)
        handed = holding[worker].pop(0)
        dispatch.began(worker, handed.number)
        dispatch.ended(worker, handed.number)
        for other in range(workers):
            holding[other] += dispatch.take(other)
        before &= {handed.number for hands in holding.values() for handed in hands}
        assert before or any(h.task.name == -1 for hands in holding.values() for h in hands)
