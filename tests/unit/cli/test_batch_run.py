"""`lepton run-batch` against a server that answers as a test says: retries, resumption, a full disk, nobody there."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cli.batch.asking import AskLimits, RowAsker
from cli.batch.output import OutputFile
from cli.batch.row import BatchRow
from cli.batch.run import Batch
from cli.http.base_url import parse_base_url
from cli.http.connection import HttpConnection
from common.clock import SystemClock
from common.errors import Conflict, LeptonError, Unavailable
from tests.support.lepton_up import Done
from tests.support.manual_clock import ManualClock
from tests.support.patience import PATIENCE_S
from tests.support.processes import ROOT
from tests.support.scripted_http import Asked, ScriptedHttp, Told, scripted_http

ANSWER = b'{"choices": [], "usage": {"completion_tokens": 3}}'
ROW = BatchRow(line=1, custom_id="a", url="/v1/completions", body=b"{}")


def _rows(path: Path, *names: str) -> Path:
    lines = [
        json.dumps({"custom_id": name, "url": "/v1/completions", "body": {"prompt": name}})
        for name in names
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def _written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def _answer(asked: Asked) -> Told:
    return Told(body=ANSWER, headers={"x-request-id": "r-1"})


class _Quiet:
    def begun(self, rows: int, done: int) -> None: ...

    def row_done(self, result: object) -> None: ...


async def _run(source: Path, output: Path, server: ScriptedHttp, **limits: float) -> Batch:
    clock = SystemClock()
    asker = RowAsker(
        clock=clock, limits=AskLimits(**{"timeout_s": 5.0, "patience_s": 0.0, **limits})
    )
    with OutputFile(output, clock) as file:
        batch = Batch(
            source, file, parse_base_url(server.url), asker, clock, _Quiet(), concurrency=4
        )
        await batch.run()
    return batch


# --- one row ------------------------------------------------------------------------------------


async def _ask(server: ScriptedHttp, clock: ManualClock, *advances: float) -> Any:
    """Asks `ROW`, time moving on so far at each wait."""
    asker = RowAsker(clock=clock, limits=AskLimits(timeout_s=5, patience_s=100))
    async with (
        HttpConnection(parse_base_url(server.url)) as connection,
        asyncio.TaskGroup() as group,
    ):
        task = group.create_task(asker.ask(connection, ROW))
        for seconds in advances:
            await clock.wait_for_sleepers(1)
            assert not task.done()
            clock.advance(seconds)
    return task.result()


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:30 GMT"}, 30.0),
    ],
)
async def test_a_full_cluster_is_asked_again_when_it_says(
    headers: dict[str, str], wait_s: float
) -> None:
    async def full_once(asked: Asked) -> Told:
        return Told(status=429, headers=headers) if len(server.asked) == 1 else Told(body=ANSWER)

    clock = ManualClock(wall=1_800_000_000.0)
    async with scripted_http(full_once) as server:
        early = asyncio.ensure_future(_ask(server, clock, wait_s - 0.01, 0.02))
        result = await early
    assert result.is_success
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("status", "headers", "asked"),
    [
        (400, {}, 1),
        (404, {}, 1),
        (409, {}, 1),
        (500, {}, 3),  # the row may be the cause
        (503, {"x-should-retry": "false"}, 1),
        (503, {"retry-after": "99"}, 2),  # then patience is over
    ],
)
async def test_what_is_asked_again(status: int, headers: dict[str, str], asked: int) -> None:
    async def refuse(asked: Asked) -> Told:
        return Told(status=status, headers=headers, body=b'{"error": {"code": "why"}}')

    async with scripted_http(refuse) as server:
        result = await _ask(server, ManualClock(), *[99.5] * (asked - 1))
    assert len(server.asked) == asked
    assert (result.status, result.failure) == (status, f"{status} why")


async def test_a_connection_that_breaks_is_one_rows_fault_only_when_others_are_answered() -> None:
    async def cut(asked: Asked) -> Told:
        return Told(raw=b"")

    async with scripted_http(cut) as server:
        clock = ManualClock()
        asker = RowAsker(clock=clock, limits=AskLimits(timeout_s=5, patience_s=0))
        async with HttpConnection(parse_base_url(server.url)) as connection:
            with pytest.raises(Unavailable):
                await asker.ask(connection, ROW)

            async def cut_while_others_are_answered(asked: Asked) -> Told:
                asker.num_replies += 1
                return Told(raw=b"")

            server.handler = cut_while_others_are_answered
            assert (await asker.ask(connection, ROW)).code == "connection_lost"


async def test_too_late_and_no_json() -> None:
    never = asyncio.Event()

    async def silent(asked: Asked) -> Told:
        await never.wait()
        return Told()

    asker = RowAsker(clock=ManualClock(), limits=AskLimits(timeout_s=0.05, patience_s=9))
    async with (
        scripted_http(silent) as server,
        HttpConnection(parse_base_url(server.url)) as connection,
    ):
        assert (await asker.ask(connection, ROW)).code == "timeout"

    async def page(asked: Asked) -> Told:
        return Told(body=b"<html>a login page</html>")

    async with scripted_http(page) as server:
        result = await _ask(server, ManualClock())
    assert (result.code, result.is_success) == ("invalid_response", False)


# --- a whole file -------------------------------------------------------------------------------


async def test_every_row_is_answered_once_and_wrong_ones_are_told(tmp_path: Path) -> None:
    source = _rows(tmp_path / "in", *(f"q{number}" for number in range(20)), "q3")
    with source.open("ab") as file:
        file.write(b"nonsense\n")
    async with scripted_http(_answer) as server:
        batch = await _run(source, tmp_path / "out", server)
        assert 1 <= server.num_connections <= 4
    tally = batch.tally
    assert (tally.rows, tally.succeeded, tally.failed) == (22, 20, 2)
    assert tally.completion_tokens == 60
    assert dict(tally.failures) == {"duplicate_custom_id": 1, "invalid_json": 1}
    asked = Counter(json.loads(one.body)["prompt"] for one in server.asked)
    assert asked == {f"q{number}": 1 for number in range(20)}
    written = _written(tmp_path / "out")
    assert len(written) == 22
    assert written[0]["response"]["request_id"] == "r-1"


async def test_the_next_run_asks_only_what_is_left(tmp_path: Path) -> None:
    source = _rows(tmp_path / "in", *(f"q{number}" for number in range(10)))
    output = tmp_path / "out"
    async with scripted_http(_answer) as server:
        await _run(source, output, server)
        lines = output.read_bytes().splitlines(keepends=True)
        output.write_bytes(b"".join(lines[:6]) + lines[6][:20])  # power went
        server.asked.clear()
        batch = await _run(source, output, server)
        assert (batch.tally.done_before, len(server.asked)) == (6, 4)
        server.asked.clear()
        again = await _run(source, output, server)
        assert again.tally.all_succeeded
        assert server.asked == []
    assert len({row["custom_id"] for row in _written(output)}) == 10


async def test_an_output_of_something_else_is_left_alone(tmp_path: Path) -> None:
    source = _rows(tmp_path / "in", "a", "b")
    async with scripted_http(_answer) as server:
        for text in ("my diary\n", '{"id": "batch_req_9", "custom_id": "a"}\n'):
            output = tmp_path / "diary"
            output.write_text(text)
            with pytest.raises(Conflict):
                await _run(source, output, server)
            assert output.read_text() == text
        output = tmp_path / "out"
        await _run(source, output, server)
        with pytest.raises(Conflict, match="another input"):
            await _run(_rows(tmp_path / "in", "a", "c"), output, server)
        with pytest.raises(Conflict):  # a shorter input
            await _run(_rows(tmp_path / "in", "a"), output, server)
        with (
            OutputFile(output, SystemClock()),
            pytest.raises(Conflict, match="another run"),
            OutputFile(output, SystemClock()),
        ):
            pass


async def test_nobody_there_ends_the_run_and_blames_no_row(tmp_path: Path) -> None:
    async with scripted_http(_answer) as server:
        pass
    with pytest.raises(LeptonError, match="does not answer"):
        await _run(_rows(tmp_path / "in", "a", "b"), tmp_path / "out", server)
    assert (tmp_path / "out").read_text() == ""


# --- the process --------------------------------------------------------------------------------


async def _lepton(*arguments: str, file_bytes_max: int | None = None) -> asyncio.subprocess.Process:
    def limit() -> None:
        if file_bytes_max is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, file_bytes_max))

    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "OPENAI_"))}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "cli.main", "run-batch", *arguments),
        cwd=ROOT,
        env={**kept, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "common" / "gen")))},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=limit,
    )


async def _end(process: asyncio.subprocess.Process) -> Done:
    out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_stopped_in_any_way_it_goes_on_without_asking_twice(
    tmp_path: Path, number: signal.Signals
) -> None:
    source = _rows(tmp_path / "in", *(f"q{index}" for index in range(40)))
    output = tmp_path / "out"
    enough = asyncio.Event()

    async def slowly(asked: Asked) -> Told:
        if len(server.asked) > 15 and not enough.is_set():
            enough.set()
        if enough.is_set():
            await asyncio.Event().wait()
        return Told(body=ANSWER)

    async with scripted_http(slowly) as server:
        arguments = (f"-i{source}", f"-o{output}", f"--url={server.url}", "-c4")
        process = await _lepton(*arguments)
        await asyncio.wait_for(enough.wait(), PATIENCE_S)
        process.send_signal(number)
        done = await _end(process)
        if number is signal.SIGINT:
            assert done.code == 130
            assert "the same command goes on" in done.stdout
            assert "Traceback" not in done.stderr
        finished = {row["custom_id"] for row in _written(output)}
        assert len(finished) >= 10
        server.asked.clear()
        server.handler = _answer
        done = await _end(await _lepton(*arguments, "--ordered", "--json"))
    assert done.code == 0, done.stderr
    assert done.json["done_before"] == len(finished)
    asked = Counter(json.loads(one.body)["prompt"] for one in server.asked)
    assert set(asked.values()) == {1}
    assert not finished & asked.keys()
    assert [row["custom_id"] for row in _written(output)] == [f"q{index}" for index in range(40)]


async def test_a_full_disk_ends_it_and_loses_nothing(tmp_path: Path) -> None:
    source = _rows(tmp_path / "in", *(f"q{index}" for index in range(40)))
    output = tmp_path / "out"
    async with scripted_http(_answer) as server:
        arguments = (f"-i{source}", f"-o{output}", f"--url={server.url}")
        done = await _end(await _lepton(*arguments, file_bytes_max=2000))
        assert done.code == 1
        assert "OS_ERROR" in done.stderr
        assert "Traceback" not in done.stderr
        whole = _written(output)  # every line is whole
        assert 0 < len(whole) < 40
        server.asked.clear()
        done = await _end(await _lepton(*arguments))
        assert done.code == 0
        assert len(server.asked) == 40 - len(whole)


async def test_the_exit_code_says_whether_every_row_succeeded(tmp_path: Path) -> None:
    async def refuse_b(asked: Asked) -> Told:
        is_b = json.loads(asked.body)["prompt"] == "b"
        return Told(status=400) if is_b else Told(body=ANSWER)

    source = _rows(tmp_path / "in", "a", "b", "c")
    async with scripted_http(refuse_b) as server:
        arguments = (f"-i{source}", f"-o{tmp_path / 'out'}", f"--url={server.url}", "--json")
        done = await _end(await _lepton(*arguments))
        assert done.code == 1
        assert done.json["failures"] == {"400": 1}
        server.handler = _answer
        assert (await _end(await _lepton(*arguments))).code == 1  # it stays as it is
        done = await _end(await _lepton(*arguments, "--retry-failed"))
        assert done.code == 0
        assert (done.json["done_before"], done.json["succeeded"]) == (2, 3)


async def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Rows that are wrong pass through the same hands as all others, only faster."""
    peaks = []
    for count in (1_000, 50_000):
        source, output = tmp_path / f"in{count}", tmp_path / f"out{count}"
        with source.open("w") as file:
            file.writelines(
                f'{{"custom_id": "q{n}", "url": "/no", "body": {{"prompt": "{"x" * 200}"}}}}\n'
                for n in range(count)
            )
        code = (
            "import resource, sys\nfrom cli.main import app\n"
            f"sys.argv = ['lepton', 'run-batch', '-i', {str(source)!r}, '-o', {str(output)!r},"
            " '--url', 'http://127.0.0.1:1']\n"
            "try:\n    app()\nexcept SystemExit:\n"
            "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", code),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/common/gen"},
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert output.read_bytes().count(b"\n") == count
        peaks.append(int(out.split()[-1]))
    assert peaks[1] - peaks[0] < 12 << 10  # KiB
