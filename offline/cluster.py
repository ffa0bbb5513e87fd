"""Jobs that do not need each other, one after the other here, or many at once on many machines.

It does not matter where a job runs or how often it is interrupted: machines share the file system and nothing else
(:mod:`offline.jobs`), and a job gets the same number of threads everywhere, since sums of floats depend on it.

Machines are Ray's (Moritz et al. 2018, https://www.usenix.org/conference/osdi18/presentation/moritz), which is
imported if it is asked for and not before.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from offline.jobs import Failure, Job
from streamscore.errors import ConfigError, StreamscoreError

#: How often a job is begun whose worker is killed each time.
MAX_ATTEMPTS = 3

#: How long the machine of an address may take to answer.
CONNECT_TIMEOUT_S = 10.0

#: Where a cluster's password may stand, beside a file.
_TOKENS = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>[^:/\s]+):(?P<port>[0-9]{1,5})")

#: Memory that Ray sets aside on this machine; the least it takes, since only names and arguments pass through it.
_OBJECT_STORE_BYTES = 80 * 2**20


@dataclass(frozen=True)
class Size:
    """What a job needs, and how many run at once.

    Parameters
    ----------
    cpus
        CPU cores, and threads.
    gpus
        GPUs of a job on a cluster, also a part of one; with 0 it sees none.
    workers
        How many jobs run at once on this machine with ``"auto"``. ``None``: as many as there are cores for.
    """

    cpus: int = 1
    gpus: float = 0.0
    workers: int | None = None


def map_jobs(
    function: Callable[..., Any],
    jobs: Mapping[str, Mapping[str, Any]],
    folder: Path,
    cluster: str | None = None,
    *,
    size: Size = Size(),
    console: Console | None = None,
) -> dict[str, Any]:
    """Call ``function(folder / name, **arguments)`` for each job that is not done, and return all results.

    Parameters
    ----------
    function
        Of a module's top level. It goes on from what it finds in its folder and returns what JSON can hold.
    jobs
        Name → arguments that JSON can hold. The name is that of the job's folder.
    folder
        Where the folders of jobs are; on machines of a cluster, the same path.
    cluster
        ``None``: one after the other, in this process. ``"auto"``: the cluster that ``RAY_ADDRESS`` names, else
        workers on this machine, which no other machine reaches. Else the address of a Ray cluster, ``HOST:PORT``.
    size
        What a job needs.
    console
        Where to tell how it goes; stderr by default.

    Returns
    -------
    dict
        Name → result as read from its file, in the order of `jobs`.

    Raises
    ------
    ConfigError
        Before anything runs: a job was begun with other arguments, names or arguments cannot be used, or Ray is
        not installed, not reached or too small.
    StreamscoreError
        At the end, if jobs failed; the others are done. It tells what each said, and has the exit code of their
        errors if they have the same.
    """
    console = console or Console(stderr=True, highlight=False)
    all_jobs = {name: Job.of(function, name, arguments, folder) for name, arguments in jobs.items()}
    waiting = [job for job in all_jobs.values() if not job.is_done]
    for job in waiting:
        job.begin()
    if waiting:
        run = _here(waiting, size) if cluster is None else _on_ray(waiting, cluster, size, console)
        bar = None if cluster is None else _bar(console)  # here, a job may show one of its own
        failures = _follow(run, len(all_jobs), len(all_jobs) - len(waiting), console, bar)
        if failures:
            told = "\n".join(f"  {name}: {failure.text}" for name, failure in failures.items())
            error = StreamscoreError(
                f"{len(failures)} of {len(all_jobs)} jobs failed:\n{told}\nWhat is done stays in {folder}; mend "
                "the cause and give the same command again: it does the rest"
            )
            codes = {failure.exit_code for failure in failures.values()}
            if len(codes) == 1:  # all failed of one kind of cause, such as recordings that cannot be read
                error.exit_code = codes.pop()
            raise error
    return {name: job.result() for name, job in all_jobs.items()}


def _here(jobs: Sequence[Job], size: Size) -> Iterator[tuple[str, Failure | None]]:
    """Run jobs one after the other; yields name and what went wrong, if anything did."""
    for job in jobs:
        yield job.name, job.attempt(size.cpus)


def _on_ray(
    jobs: Sequence[Job], cluster: str, size: Size, console: Console
) -> Iterator[tuple[str, Failure | None]]:
    """Run jobs on Ray's workers; yields name and what went wrong, if anything did, as they end."""
    with _ray(cluster, size) as ray:
        # Ray's own retries would be silent.
        work = ray.remote(_work).options(num_cpus=size.cpus, num_gpus=size.gpus, max_retries=0)
        running = {work.remote(job, size, sys.argv): job for job in jobs}
        attempts = {job.name: 1 for job in jobs}
        while running:
            (ended,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ended)
            try:
                failure = ray.get(ended)
            except ray.exceptions.RayTaskError as raised:
                failure = Failure(f"{type(raised.cause).__name__}: {raised.cause}")
            except ray.exceptions.RayError as raised:  # not the job's own: its worker or machine is gone
                why = "ran out of memory" if isinstance(raised, ray.exceptions.OutOfMemoryError) else "was killed"
                error = f"its worker {why} (attempt {attempts[job.name]} of {MAX_ATTEMPTS})"
                if attempts[job.name] < MAX_ATTEMPTS:
                    console.print(f"{job.name}: {error}; begun again, from what it wrote", soft_wrap=True)
                    attempts[job.name] += 1
                    running[work.remote(job, size, sys.argv)] = job
                    continue
                failure = Failure(f"{error}; see {job.log}, give it more memory or run fewer at once (--workers)")
            yield job.name, failure


def _work(job: Job, size: Size, command: list[str]) -> Failure | None:
    """Run a job in a worker of Ray; what it prints goes into its folder."""
    if not job.folder.is_dir():
        return Failure(
            f"{socket.gethostname()} does not see {job.folder}; use a file system that all machines share"
        )
    sys.argv = command  # what a job writes down as its provenance
    if not size.gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with (
        job.log.open("a", encoding="utf-8", buffering=1) as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        return job.attempt(size.cpus)


@contextlib.contextmanager
def _ray(cluster: str, size: Size) -> Iterator[Any]:
    """Connect to a cluster, or start workers that only this machine reaches; leaves no process behind."""
    address = os.environ.get("RAY_ADDRESS", "local") if cluster == "auto" else cluster
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # `_work` hides GPUs; Ray would warn
    options: dict[str, Any] = {}
    is_local = address == "local"
    # Whether Ray listens to other machines, whatever the name says; its processes look here.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0" if is_local else "1"
    if is_local:
        options = {
            "_node_ip_address": "127.0.0.1",
            "include_dashboard": False,
            "num_cpus": size.workers * size.cpus if size.workers else len(os.sched_getaffinity(0)),
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    else:
        _reach(cluster, address)
        if any(os.environ.get(name) for name in _TOKENS) or (Path.home() / ".ray" / "auth_token").exists():
            os.environ.setdefault("RAY_AUTH_MODE", "token")  # as `ray start` does; `ray.init` does not
    try:
        ray = importlib.import_module("ray")
        # This process looked as it imported Ray, which may have been before.
        importlib.import_module("ray._private.ray_constants").ENABLE_RAY_CLUSTER = not is_local  # type: ignore[attr-defined]
    except ModuleNotFoundError as error:
        raise ConfigError('--cluster needs Ray; run: pip install "streamscore[cluster]"') from error
    try:
        ray.init(address, **options, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[-1]
        raise ConfigError(
            f"--cluster {cluster}: Ray at {address} cannot be used: {reason}; look with `ray status` there, and "
            "whether both have the same versions and token"
        ) from error
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(node.get("CPU", 0) >= size.cpus and node.get("GPU", 0) >= size.gpus for node in nodes):
            has = "; ".join(f"{node.get('CPU', 0):g} CPUs, {node.get('GPU', 0):g} GPUs" for node in nodes)
            raise ConfigError(
                f"--cluster {cluster}: a job needs {size.cpus} CPUs and {size.gpus:g} GPUs of one machine, but "
                f"there are {has}; ask for less with --fold-cpus and --fold-gpus"
            )
        yield ray
    finally:
        ray.shutdown()


def _reach(cluster: str, address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try for minutes."""
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise ConfigError(f"--cluster {cluster}: {address!r} is no address; write HOST:PORT, or auto")
    try:
        socket.create_connection((match["host"], int(match["port"])), CONNECT_TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"--cluster {cluster}: nothing answers at {address}: {error}; start it with `ray start --head "
            "--port=6379` and give HOST:PORT as it says, or auto for this machine"
        ) from error


def _bar(console: Console) -> Progress:
    """Progress over all jobs."""
    return Progress(
        TextColumn("jobs"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _follow(
    run: Iterator[tuple[str, Failure | None]], n_jobs: int, n_before: int, console: Console, bar: Progress | None
) -> dict[str, Failure]:
    """Tell how jobs end and how long the rest may take; returns those that failed."""
    failures: dict[str, Failure] = {}
    begin_s = time.monotonic()
    if n_before:
        console.print(f"{n_before} of {n_jobs} jobs were done before", soft_wrap=True)
    with bar or contextlib.nullcontext():
        task = bar.add_task("jobs", total=n_jobs, completed=n_before) if bar else None
        for k, (name, failure) in enumerate(run, 1):
            if failure is not None:
                failures[name] = failure
            spent_s = time.monotonic() - begin_s
            left_s = spent_s / k * (n_jobs - n_before - k)
            console.print(
                f"{name}: {f'failed: {failure.text}' if failure else 'done'} ({n_before + k} of {n_jobs} after "
                f"{_clock(spent_s)}, about {_clock(left_s)} left)",
                soft_wrap=True,
                markup=False,
            )
            if bar and task is not None:
                bar.advance(task)
    return failures


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
