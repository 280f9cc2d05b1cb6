"""Extraction over several processes, which leave cleanly when interrupted and don't outlive the main one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait as wait_for_process
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..errors import MediaError

if TYPE_CHECKING:  # the evaluation's processes use this module, and nothing of the extraction
    from .extract import Extractor, Result

Job = tuple[Path, str]


def run_all(extractor: Extractor, jobs: Sequence[Job], *, workers: int) -> Iterator[Result]:
    """The results of `jobs` (file, name of the source) as they are done, with one torch thread per process.

    One worker works in this process. Raises MediaError: the output can't be written, or a worker was killed.
    """
    return _in_processes(extractor, jobs, workers) if workers > 1 else _here(extractor, jobs)


def _here(extractor: Extractor, jobs: Sequence[Job]) -> Iterator[Result]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for path, source in jobs:
            yield extractor.run(path, source)
    finally:
        torch.set_num_threads(threads)


def _in_processes(extractor: Extractor, jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    # No more is handed out than is being worked on, so that an interruption leaves nothing queued.
    waiting = list(reversed(jobs))
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=partial(_start_worker, extractor))
    running: set[Future[Result]] = set()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.add(pool.submit(_work, *waiting.pop()))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()
    except BrokenProcessPool as error:
        raise MediaError(
            "A worker process was ended from outside, perhaps for want of memory; run again with fewer --workers: "
            "what is done is kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: Extractor


def _start_worker(extractor: Extractor) -> None:
    global _worker
    _worker = extractor
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=die_with_parent, daemon=True).start()


def die_with_parent() -> None:
    """A worker would wait for ever for work from a main process that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_process([parent.sentinel])
    os._exit(1)


def _work(path: Path, source: str) -> Result:
    # Ctrl-C reaches every process: one that works leaves off cleanly, one that waits must not print a trace.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return _worker.run(path, source)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
