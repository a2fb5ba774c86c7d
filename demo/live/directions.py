"""The directions of a connection, which end together."""

import asyncio
from collections.abc import Coroutine


async def until_one_ends(*directions: Coroutine) -> None:
    """Run them side by side until the first ends; then the others are cancelled. Raises what the first raised."""
    tasks = {asyncio.create_task(direction) for direction in directions}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
