"""Texts are about the project only, and every package has a README that describes its contents."""

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REGISTRIES = "|".join(("pypi", "pythonhosted", "npmjs", "repo1?[.]maven", "proxy[.]golang", "crates"))
FORBIDDEN = {
    "the path of a machine": re.compile(r"(?<![\w.:/-])/(?:work|home|root|Users)/[\w.]"),
    "a folder beside the project": re.compile(r"(?<![\w./-])" + "share" + r"d/[a-z]+/"),
    "the host of a package registry": re.compile(rf"\b(?:{REGISTRIES})[.](?:org|com|io)\b|\brepo1?[.]maven[.]apache"),
    "a number of an issue": re.compile(r"\b[Ii]ssue #?\d|\b(?:fixes|closes) #\d"),
    "what is left for another time": re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XXX)\b"),
    "a working day": re.compile(r"\b(?:this|last|next|earlier|previous|working) (?:working )?session\b"),
    "the build of a kernel": re.compile(r"\bLinux-\d[\w.]*-"),
    "a conflict marker": re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE),
}

KAFKAS_OWN = ("hub/broker/", "hub/kafka/", "hub/protocol/")
#: Words that the project gave up: a pattern, where it may stand nevertheless, and what is written now, and why.
OLD_WORDS = {
    "attempt.run": (
        re.compile(r"\bRunAttempt\b|\brun_attempt\b|(?<=[\"'`/])attempt\.run\b"),
        (),
        "attempt.execute, ExecuteAttempt: one execution of a body is an attempt, and a run is one use of a task id",
    ),
    "life": (
        re.compile(r"(?<![A-Za-z])life(?![A-Za-z])|\b(?:former|new|its|two|all) lives\b", re.IGNORECASE),
        (),
        "run: one use of a task id; a lifecycle where the states of a thing are meant",
    ),
    "node": (
        re.compile(r"(?<![A-Za-z])nodes?(?![A-Za-z.])|\bNodeSpec\b", re.IGNORECASE),
        (*KAFKAS_OWN, "tests/", "README.md", "hub/README.md", "docker-compose.yml"),
        "step: one unit of a workflow; a node is one of Kafka's brokers",
    ),
    "a step as a node": (
        re.compile(
            r"\b(?:NodeSpec|node_data|create_nodes|retire_nodes|ADDED_NODES_MAX)\b|\bnodes? of (?:a|the) (?:graph|workflow)\b"
        ),
        (),
        "step, in tests too",
    ),
}


def tracked() -> list[Path]:
    """Every text file of the project that git knows, or, without git, every file that is not built."""
    try:
        done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True)
        paths = [ROOT / name for name in done.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        tops = ("hub", "schemas", "subscribers", "tests")
        paths = [path for top in tops for path in (ROOT / top).rglob("*") if "__pycache__" not in path.parts]
    return [path for path in paths if path.is_file() and b"\0" not in path.read_bytes()[:1000]]


@cache
def texts() -> dict[Path, str]:
    """The content of each, read once."""
    return {path: path.read_text(errors="replace") for path in tracked()}


def places(path: Path, pattern: re.Pattern[str]) -> list[str]:
    """The lines where a pattern occurs, which reaches over no end of a line: few files are looked at line by line."""
    text = texts()[path]
    if not pattern.search(text):
        return []
    lines = enumerate(text.splitlines(), 1)
    return [f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}" for number, line in lines if pattern.search(line)]


def folders() -> list[str]:
    """Packages of the project."""
    return sorted(
        str(path.parent.relative_to(ROOT))
        for top in ("hub", "schemas", "subscribers")
        for path in (ROOT / top).rglob("__init__.py")
    )


@pytest.mark.parametrize("rule", FORBIDDEN)
def test_no_file_mentions(rule: str) -> None:
    found = [
        place for path in texts() if path not in (Path(__file__), ROOT / "LICENSE") for place in places(path, FORBIDDEN[rule])
    ]
    assert not found, f"{rule} is mentioned:\n" + "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "see /work/plan/x",
        "/home/me/project",
        "https://" + "pypi.org/simple",
        "issue #3",
        "in the next session",
        "Linux-" + "6.1.0-9-x86_64",
    ],
)
def test_the_rules_find_what_they_are_for(text: str) -> None:
    assert any(pattern.search(text) for pattern in FORBIDDEN.values())


@pytest.mark.parametrize(
    "text", ["a transactional session", "http://kafka.apache.org/protocol", "one shared/exclusive lock", "/data/work/x"]
)
def test_the_rules_let_other_text_pass(text: str) -> None:
    assert not any(pattern.search(text) for pattern in FORBIDDEN.values())


@pytest.mark.parametrize("word", OLD_WORDS)
def test_an_old_word_does_not_return(word: str) -> None:
    pattern, allowed, now = OLD_WORDS[word]
    found = []
    for path in texts():
        name = str(path.relative_to(ROOT))
        if path != Path(__file__) and not name.startswith((*allowed, "LICENSE")):
            found += places(path, pattern)
    assert not found, f"write {now}\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("attempt.run", 'kind == "attempt.run"'),
        ("attempt.run", "class RunAttempt(TaskFields)"),
        ("life", "the sequence within a life"),
        ("life", "event.life"),
        ("life", "_one_life"),
        ("node", "row.steps.nodes"),
        ("node", "def node_id(root_id: str, key: str) -> str:"),
        ("a step as a node", "the nodes of a graph"),
    ],
)
def test_the_rules_know_the_old_words(word: str, text: str) -> None:
    assert OLD_WORDS[word][0].search(text)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("attempt.run", "attempt.running"),
        ("life", "lifecycle events of a lifetime"),
        ("life", "it lives in the service's loop"),
        ("node", "msgspec.NODEFAULT"),
        ("node", "KafkaNode"),
    ],
)
def test_the_rules_let_like_words_pass(word: str, text: str) -> None:
    assert not OLD_WORDS[word][0].search(text)


@pytest.mark.parametrize("folder", folders())
def test_every_package_has_a_readme_of_its_own(folder: str) -> None:
    readme = ROOT / folder / "README.md"
    assert readme.is_file(), f"{folder} has no README.md"
    assert readme.read_text().startswith("# "), f"{readme} has no title"


def test_links_between_files_lead_somewhere() -> None:
    broken = []
    for path in tracked():
        if path.suffix != ".md":
            continue
        targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text())
        dead = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
        broken += [f"{path.relative_to(ROOT)}: {target}" for target in dead]
    assert not broken, "\n".join(broken)
