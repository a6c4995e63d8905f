"""tokenizer.json files: the package where it is installed, a stand-in where it is not."""

import json
import sys
import types
from pathlib import Path

import pytest

from hinf_rl.errors import UserError
from hinf_rl.language.huggingface import load_tokenizer

WORDS = {"<s>": 0, "</s>": 1, "<pad>": 2, "alpha": 3, "beta": 4, "?": 5}


class Backend:
    """The part of tokenizers.Tokenizer that is used, on words."""

    @classmethod
    def from_file(cls, path):
        found = cls()
        found.words = json.loads(Path(path).read_text())["words"]
        return found

    def get_vocab_size(self, with_added_tokens):
        return len(self.words) if with_added_tokens else 3

    def token_to_id(self, word):
        return self.words.get(word)

    def encode(self, text, add_special_tokens):
        ids = [self.words[word] for word in text.split()]
        return types.SimpleNamespace(ids=[0, *ids] if add_special_tokens else ids)

    def decode(self, ids, skip_special_tokens):
        names = {index: word for word, index in self.words.items()}
        return " ".join(names[index] for index in ids if index > 1 or not skip_special_tokens)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files of a tokenizer that the stand-in reads."""
    monkeypatch.setitem(sys.modules, "tokenizers", types.SimpleNamespace(Tokenizer=Backend))
    (tmp_path / "tokenizer.json").write_text(json.dumps({"words": WORDS}))
    settings = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    return tmp_path


def test_special_tokens_come_from_the_settings_beside(folder):
    found = load_tokenizer(folder)
    # Without a pad token the end token fills.
    assert (found.bos_id, found.eos_id, found.pad_id) == (0, 1, 1)
    assert found.vocab_size == 6
    assert found.encode("beta alpha") == [4, 3]
    assert found.decode([0, 4, 3, 1, 1]) == "beta alpha"


def test_special_tokens_can_be_given_and_are_left_out(folder):
    found = load_tokenizer(folder / "tokenizer.json", pad="<pad>", eos="?")
    assert (found.bos_id, found.eos_id, found.pad_id) == (0, 5, 2)
    assert found.decode([4, 5, 2, 2]) == "beta"


def test_broken_files_are_named(folder):
    with pytest.raises(UserError, match=r"pad token '<nil>' is not in .*tokenizer\.json"):
        load_tokenizer(folder, pad="<nil>")
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(UserError, match="names no eos_token; give it as eos="):
        load_tokenizer(folder)
    assert load_tokenizer(folder, eos="</s>").bos_id is None
    (folder / "tokenizer_config.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="is not a tokenizer"):
        load_tokenizer(folder)
    with pytest.raises(UserError, match="nowhere is missing; name a tokenizer"):
        load_tokenizer(folder / "nowhere")


def test_without_the_package_the_error_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install 'hinf-rl\[language\]'"):
        load_tokenizer(folder)


def test_the_package_itself(tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    real = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="?"))
    real.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    real.add_special_tokens(["<s>", "</s>"])
    real.save(str(tmp_path / "tokenizer.json"))
    found = load_tokenizer(tmp_path, bos="<s>", eos="</s>")
    assert found.vocab_size == 6
    assert found.encode("alpha gamma beta") == [3, 5, 4]
    assert found.decode([0, 3, 4, 1]) == "alpha beta"
