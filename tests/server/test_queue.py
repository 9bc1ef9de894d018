"""The queue: bounded, fair between clients, first come first served within one."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monailabel_app.server.jobs.queue import FairQueue, QueueFull


def filled(*puts: tuple[str, str], limit: int = 100, client_limit: int = 100) -> FairQueue[str]:
    queue = FairQueue[str](limit, client_limit)
    for client, item in puts:
        queue.put(client, item)
    return queue


def drained(queue: FairQueue[str]) -> list[str]:
    return [str(queue.get()) for _ in range(len(queue))]


def test_clients_take_turns() -> None:
    queue = filled(("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1"), ("b", "b2"))
    assert drained(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_newcomer_waits_for_one_turn_of_each_other_client_at_most() -> None:
    queue = filled(*[("busy", f"busy{n}") for n in range(20)], ("calm", "calm1"))
    assert [queue.get(), queue.get()] == ["busy0", "calm1"]


clients = st.lists(st.sampled_from("abcd"), max_size=30)


@given(clients)
def test_order_is_what_comes_and_nothing_is_lost(names: list[str]) -> None:
    puts = [(name, f"{name}{number}") for number, name in enumerate(names)]
    queue = filled(*puts)
    foretold = queue.order()
    came = drained(queue)
    assert came == foretold
    assert sorted(came) == sorted(item for _, item in puts)
    for name in set(names):
        own = [item for item in came if item.startswith(name)]
        assert own == [item for client, item in puts if client == name]


def test_full_for_all_and_full_for_one() -> None:
    queue = filled(("a", "a1"), ("a", "a2"), limit=3, client_limit=2)
    with pytest.raises(QueueFull, match="2 of your jobs"):
        queue.put("a", "a3")
    queue.put("b", "b1")
    with pytest.raises(QueueFull, match="queue is full"):
        queue.put("c", "c1")
    assert len(queue) == 3


def test_a_removed_item_does_not_come() -> None:
    queue = filled(("a", "a1"), ("a", "a2"), ("b", "b1"))
    assert queue.remove("a1") and not queue.remove("a1")
    assert drained(queue) == ["a2", "b1"]


def test_get_waits_and_close_ends_the_wait() -> None:
    queue, got = FairQueue[str](5, 5), []
    threads = [threading.Thread(target=lambda: got.append(queue.get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    queue.put("a", "a1")
    threads[0].join(0.2)
    queue.close()
    for thread in threads:
        thread.join(5)
    assert sorted(map(str, got)) == ["None", "a1"]
