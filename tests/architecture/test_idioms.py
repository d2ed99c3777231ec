"""Messages, docstrings, comments and READMEs use plain English and the field's terms: the idioms listed here are not allowed."""

import re
from pathlib import Path

import pytest

from .test_texts import tracked

ROOT = Path(__file__).parents[2]
#: A pattern, the better wording, and a text that the pattern must find.
IDIOMS = {
    r"(?<![Tt]here )(?<![Ww]here )\bis no (?!longer|more)[A-Za-z]": ("is not a", "a result of type X is no JSON"),
    r"\banew\b|\bmade again\b": ("recreated", "the inbox was made anew"),
    r"\b(?:goes|go|went) on (?:at|there|from|after)\b": ("continues", "it goes on at 7"),
    r"\b(?:is|was|are|were) (?:not )?told\b": ("reported", "an end was not told"),
    r"\bwords? to\b": ("a report to", "a word to every inbox"),
    r"\bbehind (?:this|the|its|that) (?:offset|position|end|log)": ("after, before or past", "at or behind this offset"),
    r"\bset aside\b": ("dead-letter", "it is set aside"),
    r"\bmisplaced\b|\bastray\b": ("misrouted", "a misplaced report"),
    r"\btime-outs?\b": ("timeout", "a time-out"),
    r"\bback-off\b": ("backoff", "a back-off"),
    r"\bplug-ins?\b": ("plugin", "a plug-in"),
    r"\bno certain end\b": ("unknown outcome", "it has no certain end"),
    r"\bstands there\b": ("is listed", "it stands there twice"),
    r"\bnobody foresaw\b": ("unexpected", "fails in a way that nobody foresaw"),
    r"\bmust lie\b": ("must be", "must lie between 0 and 1"),
    r"\bif it likes\b": ("optionally", "and, if it likes, the meta"),
    r"\bthe (?:own )?door\b": ("the in-process API", "the door inside the process"),
    r"\bat hand\b(?! over)": ("current, or available", "finish the transaction at hand"),
    r"\bfor good\b": ("finally, or permanently", "it failed for good"),
    r"\ball the same\b": ("nevertheless", "it may have been stored all the same"),
    r"\bbr(?:ought|ings?|ing) to disk\b": ("synced", "one function brought to disk what was written"),
    r"\bpassed over\b": ("skipped", "an offset was passed over"),
    r"\bif need be\b|\bneeds not\b": ("if necessary; need not", "it stays, if need be without records"),
    r"\bsay (?:it|so) on\b": ("set it on", "say it on its steps"),
    r"\b(?:broker|leader|cluster) (?:is|are) away\b": ("is unreachable", "while the broker is away"),
    r"\b(?:broker|engine|nothing|nobody|none) answers?\b": ("responds", "3 no broker answers"),
    r"\b(?:for|of|after|not|most|least|before|has|wait) so (?:long|many|few|often)\b": (
        "this long; this many",
        "at most so long",
    ),
    r"\b(?:any|some|every)body\b": ("name the program or the caller", "for everybody who waits"),
    r"\btried again\b|\b(?:another|next|further) try\b": ("retried; attempt", "it is tried again later"),
    r"\bhears? of\b": ("is notified of", "a partition that is to hear of it"),
    r"\bhand(?:s|ed)? (?:back|on)\b": ("release; pass", "what waits is handed back"),
    r"\bin hand\b": ("unfinished; in progress", "what a worker has in hand"),
    r"\bbec(?:ame|omes?) of\b": ("the outcome of", "what became of a submission"),
    r"\bwhere (?:there is|it has|there was|they have) (?:one|none)\b": ("if there is", "None where there is none"),
    r"\bstands? still\b": ("does not advance", "its position stands still"),
    r"\bspeaks? of\b": ("names; contains", "the process that a row speaks of"),
    r"\blies? idle\b|\bto be had\b|\bin vain\b|\bas it should\b": (
        "idle; available; failed; as expected",
        "credit that lies idle",
    ),
    r"\bnow and then\b": ("occasionally; at a limited rate", "logged now and then"),
}


@pytest.mark.parametrize("pattern", IDIOMS)
def test_the_pattern_finds_its_idiom(pattern: str) -> None:
    assert re.search(pattern, IDIOMS[pattern][1])


@pytest.mark.parametrize("pattern", IDIOMS)
def test_no_text_of_the_project_uses(pattern: str) -> None:
    tests = ROOT / "tests"
    texts = [path for path in tracked() if path.suffix in (".py", ".md") and tests not in path.parents]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in texts
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, f'write "{IDIOMS[pattern][0]}":\n' + "\n".join(found)
