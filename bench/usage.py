"""What processes use: CPU time and memory of process trees."""

from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass
class Tree:
    """Processes with all their descendants. Children that have ended count through their parents, which the
    kernel credits when they are collected."""

    pids: list[int]

    @classmethod
    def from_pid_file(cls, path: Path) -> "Tree":
        return cls([int(path.read_text().split()[0])])

    def _processes(self) -> dict[int, psutil.Process]:
        found: dict[int, psutil.Process] = {}
        for pid in self.pids:
            try:
                top = psutil.Process(pid)
                found[pid] = top
                found |= {p.pid: p for p in top.children(recursive=True)}
            except psutil.NoSuchProcess:
                continue
        return found

    def cpu_ms(self) -> float:
        """User and system time since they started, in milliseconds."""
        total = 0.0
        for process in self._processes().values():
            try:
                t = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += t.user + t.system + t.children_user + t.children_system
        return total * 1000

    def rss_mb(self) -> list[float]:
        """Resident memory of each top process, in MB (a database's shared pages are in each of its processes)."""
        sizes = []
        for pid in self.pids:
            try:
                sizes.append(psutil.Process(pid).memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                continue
        return sizes


def snapshot(trees: dict[str, Tree]) -> dict[str, float]:
    return {name: tree.cpu_ms() for name, tree in trees.items()}


def used(before: dict[str, float], after: dict[str, float], messages: int) -> dict[str, float]:
    """CPU milliseconds per message of each tree."""
    return {name: (after[name] - before[name]) / max(messages, 1) for name in after}
