# SPDX-License-Identifier: Apache-2.0
"""The file of --config: options before those of the command line, and plugins' keys."""

from pathlib import Path

import msgspec
import pytest

from pyvpp.config import Config, check_plugins, read_file
from pyvpp.errors import OperatorError
from pyvpp.main import read_options


class Keys(msgspec.Struct, frozen=True):
    lifetime: int = 30
    names: list[str] = []


CENSUS = Config("census", Keys)


def write(folder: Path, text: str) -> str:
    path = folder / "pyvpp.toml"
    path.write_text(text)
    return str(path)


def test_options_of_the_file_come_before_those_of_the_command_line(tmp_path):
    text = (
        'workers = 3\nuplink = ["eth0", "eth1"]\nqdisc-bypass = true\nwatch = false\nconfirm = 60\nexec = "setup.cli"\n'
    )
    path = write(tmp_path, text + "[plugin.census]\nlifetime = 60\n")
    options = read_options(["--config", path, "--workers", "2", "--uplink", "eth2"])
    assert (options.workers, options.uplink, options.qdisc_bypass) == (2, ["eth0", "eth1", "eth2"], True)
    assert (options.watch, options.confirm, options.script) == (False, 60, "setup.cli")
    assert options.settings == {"census": {"lifetime": 60}}
    assert read_options([]).settings == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("wokers = 3\n", "unknown key `wokers' (did you mean workers?)"),
        ('config = "other"\n', "unknown key `config'"),
        ("[workers]\nn = 2\n", "workers is a table (expected a value, or [plugin.workers])"),
        ("plugin = 3\n", "plugin is no table of tables (expected [plugin.NAME])"),
        ("workers = \n", "Invalid value (at line 1, column 11)"),
    ],
)
def test_a_mistake_in_the_file(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(OperatorError) as refused:
        read_options(["--config", path])
    assert str(refused.value).startswith(f"--config {path}: ")
    assert said in str(refused.value)


def test_a_value_that_the_option_does_not_take(tmp_path, capsys):
    with pytest.raises(SystemExit):
        read_options(["--config", write(tmp_path, 'workers = "many"\n')])
    assert "argument --workers: invalid int value: 'many'" in capsys.readouterr().err


def test_a_file_that_is_not_there():
    with pytest.raises(OperatorError, match=r"--config /nowhere/pyvpp\.toml: No such file or directory"):
        read_file("/nowhere/pyvpp.toml")


def test_keys_of_a_plugin():
    assert CENSUS.read({}) == Keys()
    assert CENSUS.read({"lifetime": 60, "names": ["a"]}) == Keys(60, ["a"])


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        ({"census": {"lifetim": 3}}, "[plugin.census]: unknown key `lifetim' (did you mean lifetime?)"),
        ({"census": {"lifetime": "long"}}, "[plugin.census]: Expected `int`, got `str` - at `$.lifetime`"),
        ({"censor": {}}, "no plugin has keys in [plugin.censor] (did you mean census?)"),
    ],
)
def test_a_mistake_in_a_plugins_keys(plugins, said):
    with pytest.raises(OperatorError) as refused:
        check_plugins("f.toml", plugins, [CENSUS])
    assert str(refused.value) == f"--config f.toml: {said}"
