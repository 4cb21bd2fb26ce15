# SPDX-License-Identifier: Apache-2.0
"""The log as the command line shows it: the latest messages in memory, classes and levels in VPP's words."""

import logging
import time
from collections import deque
from typing import Any

SIZE = 512
ROOTS = ("pyvpp", "pyvpp_nodes")
LEVELS = {
    "emerg": logging.CRITICAL,
    "alert": logging.CRITICAL,
    "crit": logging.CRITICAL,
    "err": logging.ERROR,
    "warn": logging.WARNING,
    "notice": logging.INFO,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "disabled": logging.CRITICAL + 10,
}


class LogBuffer(logging.Handler):
    """Keeps the latest messages. Put it on the root logger with `logging.getLogger().addHandler(log_buffer)`."""

    def __init__(self, size: int = SIZE) -> None:
        super().__init__()
        self.size = size
        self._records: deque[dict[str, Any]] = deque(maxlen=size)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
            if record.exc_info and record.exc_info[1] is not None:
                error = record.exc_info[1]
                message = f"{message}: {type(error).__name__}: {error}"
        except Exception:  # a wrong format in a log call is not worth more than a line
            message = str(record.msg)
        at = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(record.created))
        self._records.append(
            {
                "time": f"{at}:{int(record.msecs):03d}",
                "level": level_name(record.levelno),
                "class": class_name(record.name),
                "message": " ".join(message.split()),
            }
        )

    def entries(self) -> list[dict[str, Any]]:
        return list(self._records)

    def clear(self) -> None:
        self._records.clear()


log_buffer = LogBuffer()


def logger_names() -> list[str]:
    """Our loggers, made by importing their modules."""
    known = {*ROOTS, *(name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ROOTS)}
    return sorted(known)


def class_name(logger: str) -> str:
    """`pyvpp.linux.uplink` is class `linux/uplink`; `pyvpp` itself keeps its name."""
    root, _, below = logger.partition(".")
    return below.replace(".", "/") if root in ROOTS and below else logger


def level_name(level: int) -> str:
    if level > logging.CRITICAL:
        return "disabled"
    if level >= logging.CRITICAL:
        return "crit"
    if level >= logging.ERROR:
        return "err"
    if level >= logging.WARNING:
        return "warn"
    return "info" if level >= logging.INFO else "debug"
