"""In a burst of requests callers take turns on the event loop."""

import asyncio

from bancobot_project.server.loop_rounds import AT_ONCE, LoopRounds


def scope(address: str) -> dict[str, object]:
    return {"path": "/chat", "headers": [], "client": (address, 1)}


async def passed(rounds: LoopRounds, order: list[str], address: str) -> None:
    await rounds.turn(scope(address))
    order.append(address)


def test_who_comes_after_a_burst_is_next() -> None:
    async def play() -> list[str]:
        rounds, order = LoopRounds(), list[str]()
        burst = [asyncio.create_task(passed(rounds, order, "10.0.0.1")) for _ in range(1000)]
        await asyncio.sleep(0)
        late = [asyncio.create_task(passed(rounds, order, address)) for address in ("10.0.0.2", "10.0.0.3")]
        await asyncio.gather(*burst, *late)
        assert not vars(rounds)["_lines"].waiting
        return order

    order = asyncio.run(play())
    assert len(order) == 1002
    assert {"10.0.0.2", "10.0.0.3"} <= set(order[: 4 * AT_ONCE])


def test_who_left_the_line_holds_up_nobody() -> None:
    async def play() -> list[str]:
        rounds, order = LoopRounds(), list[str]()
        leaving = [asyncio.create_task(passed(rounds, order, "10.0.0.1")) for _ in range(5 * AT_ONCE)]
        await asyncio.sleep(0)
        for task in leaving:
            task.cancel()
        staying = [asyncio.create_task(passed(rounds, order, "10.0.0.2")) for _ in range(3 * AT_ONCE)]
        await asyncio.gather(*staying)
        return order

    assert asyncio.run(play()).count("10.0.0.2") == 3 * AT_ONCE
