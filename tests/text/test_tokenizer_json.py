from __future__ import annotations

import json

import huggingface_hub
import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from calmkit.interfaces import DataError
from calmkit.text.tokenizer_json import COMMON_EOS, JsonTokenizer
from calmkit.text.tokenizers.file import FileTokenizer
from calmkit.text.tokenizers.hub import HubTokenizer


def words(*names: str) -> tokenizers.Tokenizer:
    """A vocabulary of whole words, parted at white space."""
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token=names[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def sentence_pieces() -> tokenizers.Tokenizer:
    """Llama's way: a mark for spaces, and bytes where there is no piece."""
    pieces = ["<unk>", "</s>", "▁a", "▁", "a", "é", "<0xE2>", "<0x98>", "<0x83>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocabulary, [("▁", "a")], byte_fallback=True, unk_token="<unk>")
    )
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


@pytest.mark.parametrize("eos", COMMON_EOS)
def test_finds_the_common_names(eos):
    tokenizer = JsonTokenizer(words("[UNK]", "a", eos, "b").to_str())
    assert (tokenizer.eos, tokenizer.eos_id, tokenizer.vocab_size) == (eos, 2, 4)


def test_takes_the_one_asked_for():
    text = words("[UNK]", "</s>", "a", "STOP").to_str()
    assert JsonTokenizer(text).eos_id == 1
    assert JsonTokenizer(text, eos="STOP").eos_id == 3
    with pytest.raises(DataError, match=r"has no 'END'; set tokenizer\.eos .*among \[UNK\], </s>"):
        JsonTokenizer(text, eos="END")


def test_without_end_of_text_it_is_refused():
    with pytest.raises(DataError, match=r"x\.json: .* has no .*set tokenizer\.eos .*among \[UNK\], <pad>"):
        JsonTokenizer(words("[UNK]", "a", "<pad>").to_str(), where="x.json")


def test_its_letters_in_a_text_are_no_end_of_text():
    # as a plain word of the vocabulary, and as a special token
    plain, special = words("[UNK]", "a", "</s>"), words("[UNK]", "a", "</s>")
    special.add_special_tokens(["</s>"])
    for tokenizer in (JsonTokenizer(plain.to_str()), JsonTokenizer(special.to_str())):
        with pytest.raises(DataError, match=r"begins 'a </s>' gives end-of-text .*; remove '</s>'"):
            tokenizer.encode(["a", "a </s>"])  # a vocabulary of words has no other way to write it
    pieces = JsonTokenizer(sentence_pieces().to_str())
    assert pieces.eos_id not in pieces.encode(["a</s>a"])[0]


def test_truncation_padding_and_templates_are_undone():
    tokenizer = words("[UNK]", "a", "</s>", "[CLS]")
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(pad_id=0, length=8)
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A </s>", special_tokens=[("[CLS]", 3), ("</s>", 2)]
    )
    assert JsonTokenizer(tokenizer.to_str()).encode(["a " * 5, "a"]) == [[1] * 5, [1]]


def test_lengths_of_marked_words_and_of_bytes():
    tokenizer = JsonTokenizer(sentence_pieces().to_str())
    text = "a a é☃"
    [ids] = tokenizer.encode([text])
    assert tokenizer.decode(ids) == text
    # <unk> is never text; then </s>, "▁a" = " a", "▁" = " ", "a", "é" of two bytes, three bytes
    assert tokenizer.token_lengths()[1:] == [0, 2, 1, 1, 2, 1, 1, 1]
    assert sum(tokenizer.token_lengths()[token] for token in ids) == len(text.encode())


def test_lengths_of_continued_words():
    vocabulary = {"[UNK]": 0, "[EOS]": 1, "a": 2, "##b": 3, "cd": 4}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    assert JsonTokenizer(tokenizer.to_str()).token_lengths()[2:] == [2, 1, 3]  # " a", "b", " cd"


def test_fingerprint_is_of_meaning():
    text = words("[UNK]", "a", "</s>", "<eos>").to_str()
    before = JsonTokenizer(text).fingerprint()
    assert JsonTokenizer(json.dumps(json.loads(text), indent=3, sort_keys=True)).fingerprint() == before
    assert JsonTokenizer(text, eos="<eos>").fingerprint() != before
    assert JsonTokenizer(words("[UNK]", "b", "</s>", "<eos>").to_str()).fingerprint() != before


def test_holes_in_the_vocabulary_count():
    tokenizer = tokenizers.Tokenizer(models.WordLevel({"a": 0, "</s>": 7}, unk_token="a"))
    assert JsonTokenizer(tokenizer.to_str()).vocab_size == 8


def test_a_file_is_read_late_and_a_run_outlives_it(tmp_path, list_corpus):
    path = tmp_path / "tokenizer.json"
    words("[UNK]", "a", "</s>").save(str(path))
    for given in (path, tmp_path):
        tokenizer = FileTokenizer(path=str(given))
        assert (tokenizer.vocab_size, tokenizer.eos_id) == (3, 2)
        assert tokenizer.encode(["a a"]) == [[1, 1]]
    ready = tokenizer.prepare(list_corpus([], []), tmp_path)
    ready.save(tmp_path / "run")
    path.unlink()
    late = FileTokenizer(path=str(path))
    assert late.restore(tmp_path / "run").fingerprint() == ready.fingerprint()
    with pytest.raises(DataError, match=rf"the tokenizer {path} cannot be read"):
        late.prepare(list_corpus([], []), tmp_path)


def test_a_saved_choice_of_end_of_text_is_kept(tmp_path):
    JsonTokenizer(words("[UNK]", "</s>", "STOP").to_str(), eos="STOP").save(tmp_path)
    assert FileTokenizer(path="gone").restore(tmp_path).eos_id == 2
    (tmp_path / "tokenizer_eos.json").write_text("{}")
    with pytest.raises(DataError, match=rf"{tmp_path} holds no whole tokenizer"):
        FileTokenizer(path="gone").restore(tmp_path)


def test_a_stated_size_needs_no_file_and_is_checked(tmp_path, list_corpus, monkeypatch):
    path = tmp_path / "tokenizer.json"
    hub = HubTokenizer(id="some/model", vocab_size=5)
    file = FileTokenizer(path=str(path), vocab_size=5)
    assert (file.vocab_size, hub.vocab_size) == (5, 5)  # nothing is there
    words("[UNK]", "a", "</s>").save(str(path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *args, **kwargs: str(path))
    for tokenizer in (file, hub):
        ready = tokenizer.prepare(list_corpus([], []), tmp_path)
        assert (ready.vocab_size, ready.decode([1, 4, 1])) == (5, "a a")
        assert list(ready.token_lengths())[3:] == [0, 0]
        ready.save(tmp_path)
        assert tokenizer.restore(tmp_path).vocab_size == 5
        assert ready.fingerprint() == JsonTokenizer(path.read_text()).fingerprint()
    with pytest.raises(DataError, match=r"has 3 ids, tokenizer.vocab_size says 2; 3 or more would do"):
        FileTokenizer(path=str(path), vocab_size=2).prepare(list_corpus([], []), tmp_path)
    for kind, given in ((FileTokenizer, {"path": "a"}), (HubTokenizer, {"id": "a"})):
        with pytest.raises(ValueError, match="vocab_size must be at least 1, got 0"):
            kind(**given, vocab_size=0)


def test_a_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text('{"a": 1}')
    with pytest.raises(DataError, match=rf"{path} is no tokenizer.json"):
        FileTokenizer(path=str(path)).encode(["a"])


def test_the_hub_is_asked_once_and_for_the_revision(tmp_path, monkeypatch, list_corpus):
    path = tmp_path / "fetched.json"
    words("[UNK]", "a", "</s>").save(str(path))
    asked = []

    def download(id, name, revision):
        asked.append((id, name, revision))
        return str(path)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    tokenizer = HubTokenizer(id="some/model", revision="v2")
    assert asked == []
    ready = tokenizer.prepare(list_corpus([], []), tmp_path)
    assert ready.encode(["a"]) == [[1]]
    assert (tokenizer.vocab_size, tokenizer.eos_id) == (3, 2)
    assert asked == [("some/model", "tokenizer.json", "v2")]


def test_offline_it_says_what_would_do(monkeypatch):
    def download(*args, **kwargs):
        raise OSError("We couldn't connect\nand more lines")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(DataError, match=r"'some/model' cannot be .*: We couldn't connect\. .*tokenizer=file"):
        HubTokenizer(id="some/model").encode(["a"])
