"""Ways to break the directory of a good policy, each under a name, with the place and the code of one finding that is then told.

`documents/test_broken_files.py` breaks texts in one place each and looks at every word of the finding; here files,
directories and bytes are broken as well, and what matters is that nothing of it goes live.
"""

# ruff: noqa: E501 - a table reads by its columns

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.documents.good import GOOD, changed

Break = Callable[[Path], None]
NAME = "policy.yaml"


def text(whole: str) -> Break:
    return lambda directory: _replace(directory, whole.encode())


def swap(old: str, new: str) -> Break:
    """One piece of the good policy for another."""
    return text(changed(old, new))


def raw(whole: bytes) -> Break:
    return lambda directory: _replace(directory, whole)


def beside(name: str, content: str) -> Break:
    """Another file beside the good one."""
    return lambda directory: _replace(directory, content.encode(), name=name)


def _replace(directory: Path, whole: bytes, *, name: str = NAME) -> None:
    part = directory / ".part"
    part.write_bytes(whole)
    part.replace(directory / name)


def _sparse(directory: Path) -> None:
    part = directory / ".part"
    with part.open("wb") as file:
        file.truncate(100_000_000)
    part.replace(directory / NAME)


def _gone(directory: Path) -> None:
    (directory / NAME).unlink()


def _no_directory(directory: Path) -> None:
    (directory / NAME).unlink()
    directory.rmdir()


def _a_directory(directory: Path) -> None:
    (directory / NAME).unlink()
    (directory / NAME).mkdir()


def _a_pipe(directory: Path) -> None:
    (directory / NAME).unlink()
    os.mkfifo(directory / NAME)


def _a_link_to(where: str) -> Break:
    def link(directory: Path) -> None:
        (directory / ".link").symlink_to(where)
        (directory / ".link").replace(directory / NAME)

    return link


def _too_many(directory: Path) -> None:
    for number in range(300):
        (directory / f"{number}.yaml").touch()


def _strange_name(directory: Path) -> None:
    (directory / "two\nlines.yaml").write_text("targets: {}\n")


DEEP = "a: " + "[" * 2000 + "]" * 2000 + "\n"
BOMB = 'a: &a ["lol", "lol"]\nb: &b [*a, *a, *a]\nc: &c [*b, *b, *b]\ntargets: [*c, *c, *c]\n'
WIDE = "targets:\n" + "".join(f"  t{n}: {{}}\n" for n in range(60_000))

#: what is done → (how, place of a finding, its code). The directory itself is written as `DIRECTORY`.
BREAKAGES: dict[str, tuple[Break, str, str]] = {
    # ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────
    "the file is deleted": (_gone, "DIRECTORY", "no-files"),
    "the directory is deleted": (_no_directory, "DIRECTORY", "no-files"),
    "a directory in its place": (_a_directory, "policy.yaml", "unreadable"),
    "a pipe in its place": (_a_pipe, "policy.yaml", "unreadable"),
    "a link to nothing": (_a_link_to("nowhere"), "policy.yaml", "unreadable"),
    "a link to itself": (_a_link_to(NAME), "policy.yaml", "unreadable"),
    "a link to a device": (_a_link_to("/dev/zero"), "policy.yaml", "unreadable"),
    "100 MB": (_sparse, "policy.yaml", "too-large"),
    "300 files": (_too_many, "DIRECTORY", "too-many"),
    "a file's name on two lines": (_strange_name, "two\\nlines.yaml", "unreadable"),
    "a target in two files": (beside("more.yaml", GOOD[GOOD.index("targets:") : GOOD.index("models:")]), "policy.yaml:3", "duplicate-name"),
    "a second file that is not YAML": (beside("more.yaml", "targets: {\n"), "more.yaml:2", "yaml"),
    # ── bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────
    "empty": (raw(b""), "policies", "empty"),
    "only blanks": (raw(b"\n\n   \n"), "policies", "empty"),
    "only comments": (text("# later\n# soon\n"), "policies", "empty"),
    "a zero byte": (text(GOOD + "\0"), "policy.yaml:42", "not-text"),
    "nothing but zero bytes": (raw(bytes(4096)), "policy.yaml:1", "not-text"),
    "Latin-1": (raw(GOOD.encode() + "# café\n".encode("latin-1")), "policy.yaml:42", "not-text"),
    "UTF-16": (raw(GOOD.encode("utf-16")), "policy.yaml:1", "not-text"),
    "UTF-8 cut inside a character": (raw(GOOD.encode() + "# é".encode()[:-1]), "policy.yaml:42", "not-text"),
    "an old Mac's line ends": (text(GOOD.replace("\n", "\r")), "policy.yaml:1", "not-text"),
    "a mark of byte order inside": (text(GOOD.replace("models:", "\ufeffmodels:")), "policy.yaml:18", "not-text"),
    "a bell": (text(GOOD + "# \a\n"), "policy.yaml:42", "not-text"),
    "a program": (raw(b"\x7fELF\x02\x01\x01" + bytes(64)), "policy.yaml:1", "not-text"),
    "a JSON array": (text("[1, 2, 3]\n"), "policy.yaml:1", "shape"),
    "a plain word": (text("hello\n"), "policy.yaml:1", "shape"),
    "a web page": (text("<html><body>404</body></html>\n"), "policy.yaml:1", "shape"),
    "a merge that conflicts": (text(GOOD.replace("models:", "<<<<<<< HEAD\nmodels:")), "policy.yaml:19", "yaml"),
    # ── YAML ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    "truncated inside a list": (text(GOOD[: GOOD.index("hosted]") + 3]), "policy.yaml:26", "yaml"),
    "truncated inside a word": (text(GOOD[: GOOD.index("timeouts") + 4]), "policy.yaml:33", "yaml"),
    "truncated after a key": (text(GOOD[: GOOD.index("rates:")]), "policy.yaml:11", "unpriced"),
    "a key given twice": (swap("    engine: vllm", "    engine: vllm\n    engine: vllm"), "policy.yaml:6", "duplicate-key"),
    "a tab": (swap("    engine: vllm", "\tengine: vllm"), "policy.yaml:5", "tab"),
    "a bomb of anchors": (text(BOMB), "policy.yaml:1", "anchor"),
    "a merge key": (swap("    engine: vllm", "    <<: {engine: vllm}"), "policy.yaml:5", "merge"),
    "a tag": (swap("model: small", "model: !!python/object:os.system small"), "policy.yaml:7", "tag"),
    "two documents": (text(GOOD + "---\n" + GOOD), "policy.yaml:42", "second-document"),
    "nested two thousand deep": (text(DEEP), "policy.yaml:1", "too-deep"),
    "sixty thousand targets": (text(WIDE), "policy.yaml:25000", "too-large"),
    "`no` as a target's name": (text(GOOD.replace("gpu-a", "no")), "policy.yaml:3", "doubtful-truth"),
    "a number as a target's name": (text(GOOD.replace("gpu-a", "7")), "policy.yaml:3", "key"),
    # ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────
    "an unknown key": (swap("    engine: vllm", "    engin: vllm"), "policy.yaml:5", "unknown-key"),
    "an unknown key at the top": (text(GOOD + "tragets: {}\n"), "policy.yaml:42", "unknown-key"),
    "a word for a number": (swap("attempts: 3", "attempts: three"), "policy.yaml:31", "shape"),
    "a huge whole number": (swap("attempts: 3", "attempts: " + "9" * 400), "policy.yaml:31", "shape"),
    "not a number": (swap("connect_s: 2", "connect_s: .nan"), "policy.yaml:32", "shape"),
    "without end": (swap("connect_s: 2", "connect_s: .inf"), "policy.yaml:32", "shape"),
    "text for a list": (swap("use: [gpu-a]", "use: gpu-a"), "policy.yaml:23", "shape"),
    "an engine that nobody makes": (swap("engine: vllm", "engine: vlm"), "policy.yaml:5", "word"),
    "a timezone that is none": (swap("Europe/Berlin", "Europe/Bern"), "policy.yaml:1", "timezone"),
    "a URL in clear text": (swap("http://127.0.0.1:8001", "http://gpu.example.com"), "policy.yaml:6", "url"),
    "a secret by value": (swap("env:OPENAI_API_KEY", "sk-proj-abcdefghijkl"), "policy.yaml:17", "credential"),
    # ── what belongs together ────────────────────────────────────────────────────────────────────────────────────────
    "a target that no file has": (swap("use: [gpu-a]", "use: [gpu-b]"), "policy.yaml:23", "unknown-target"),
    "an unpriced target": (swap("      usd_per_million_tokens: {prompt: 0.25, cached_prompt: 0.025, completion: 2.00}\n", "      {}\n"), "policy.yaml:12", "unpriced"),
    "a machine without a price": (swap("type: h100", "type: h200"), "policy.yaml:11", "unpriced"),
    "a negative price": (swap("prompt: 0.25,", "prompt: -0.25,"), "policy.yaml:39", "shape"),
    "a rule that is never reached": (swap("        when: request.n > 1\n", ""), "policy.yaml:27", "unreachable"),
    "weights all zero": (swap("gpu-a: 90, hosted: 10", "gpu-a: 0, hosted: 0"), "policy.yaml:27", "weights"),
    # ── conditions ───────────────────────────────────────────────────────────────────────────────────────────────────
    "a field that does not exist": (swap('caller.team == "legal"', 'caller.taem == "legal"'), "policy.yaml:22", "condition"),
    "a name that does not exist": (swap('caller.team == "legal"', 'callr.team == "legal"'), "policy.yaml:22", "condition"),
    "a condition that is cut off": (swap('caller.team == "legal"', "caller.team =="), "policy.yaml:22", "condition"),
    "a number against text": (swap('caller.team == "legal"', 'request.n == "1"'), "policy.yaml:22", "condition"),
    "a condition ten thousand deep": (swap('caller.team == "legal"', "(" * 10_000 + "true" + ")" * 10_000), "policy.yaml:22", "condition"),
}  # fmt: skip

#: Odd, and yet a policy: what is done → how.
ODD_BUT_GOOD: dict[str, Break] = {
    "Windows' line ends": text(GOOD.replace("\n", "\r\n")),
    "a mark of byte order at the start": text("\ufeff" + GOOD),
    "no line break at the end": text(GOOD.rstrip()),
    "a file beside it that is no YAML file": beside("notes.txt", "\0"),
    "an editor's leftovers": beside(".policy.yaml.swp", "\0"),
    "a file beside it that says nothing": beside("empty.yaml", "# nothing yet\n"),
}
