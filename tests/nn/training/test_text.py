"""Vocabularies, text files, the language reference, and streams for truncated back-propagation."""

import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st

import chainrule as cr
from chainrule import data, nn, optim
from chainrule.data import Streams, Vocabulary

# ---- vocabularies ----------------------------------------------------------------------------------------------------


@given(st.text(min_size=1))
def test_decoding_undoes_encoding(text):
    vocabulary = Vocabulary.of(text)
    ids = vocabulary.encode(text)
    assert ids.dtype == np.int64 and ids.shape == (len(text),)
    assert "".join(vocabulary.decode(ids)) == text
    assert Vocabulary("".join(vocabulary.tokens)).numbers == vocabulary.numbers  # a string of characters saves it


def test_numbers_follow_the_order_given():
    vocabulary = Vocabulary.of("the cat the dog".split(), special=["<pad>", "the"])
    assert vocabulary.tokens == ["<pad>", "the", "cat", "dog"]
    assert (len(vocabulary), "dog" in vocabulary, "bird" in vocabulary) == (4, True, False)
    assert vocabulary.encode([]).shape == (0,) and vocabulary.decode(cr.tensor([3, 1])) == ["dog", "the"]


def test_unknown_tokens():
    vocabulary = Vocabulary(["?", "a"], unknown="?")
    assert vocabulary.encode("abba").tolist() == [1, 0, 0, 1]
    with pytest.raises(ValueError, match=r"received 'ß', 'é', which it has no number for; it knows 'h', .*'o'. Leave"):
        Vocabulary("helo").encode("héßllo")
    with pytest.raises(ValueError, match=r"'\+', ',', '-', '\.', '/', '0', '1', '2' and 4 more, which"):
        Vocabulary("a").encode("+,-./0123456")


def test_vocabularies_that_cannot_be():
    with pytest.raises(ValueError, match="received 'l' more than once, so it has no one number"):
        Vocabulary("hello")
    with pytest.raises(ValueError, match="unknown='<unk>', which is not among its 3 tokens. Put it into them"):
        Vocabulary("abc", unknown="<unk>")
    for number in (-1, 3):
        with pytest.raises(ValueError, match=f"received the number {number}, but its 3 tokens have .* from 0 to 2"):
            Vocabulary("abc").decode([0, number])


# ---- texts -----------------------------------------------------------------------------------------------------------


def test_the_language_reference_is_the_same_each_time_and_repeats_nothing():
    text = data.language_reference()
    assert text == data.language_reference() and len(text) > 300_000
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    assert len(set(paragraphs)) == len(paragraphs) and "" not in paragraphs
    assert '"while"' in text and "yield_expression" in text


def test_a_python_without_the_language_reference(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(ImportError, match="pydoc_data.topics, and this Python .* Install the whole .* --data FILE"):
        data.language_reference()


@pytest.mark.parametrize(
    "content, expected",
    [
        (b"plain\n", "plain\n"),
        ("Straße – für…".encode(), "Straße – für…"),
        (b"\xef\xbb\xbfmarked", "marked"),
        (b"a\r\nb\rc\n", "a\nb\nc\n"),
    ],
)
def test_reading_text(tmp_path, content, expected):
    (tmp_path / "file").write_bytes(content)
    assert data.read_text(tmp_path / "file") == data.read_text(str(tmp_path / "file")) == expected


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "holds no text. Pass a file with some"),
        (b" \n\t", "holds no text"),
        (b"caf\xe9 au lait", r"no text in UTF-8: byte 3 \(0xe9\) is not UTF-8. .*iconv -f LATIN1"),
        (b"PK\3\4\0\0", "no text in UTF-8: character 4 is NUL"),
        ("text".encode("utf-16"), "is not UTF-8"),
    ],
)
def test_what_is_no_text(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.read_text(tmp_path / "file")


def test_files_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="but there is no such file. Check the path"):
        data.read_text(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError, match="which is a folder. Pass a text file inside it"):
        data.read_text(tmp_path)


# ---- streams ---------------------------------------------------------------------------------------------------------


@given(st.data())
def test_streams_hold_every_id_and_its_successor_once(drawn):
    streams, window = drawn.draw(st.integers(1, 5)), drawn.draw(st.integers(1, 6))
    n = drawn.draw(st.integers(streams * window + 1, 80))
    loader = Streams(cr.arange(n), streams, window)
    batches = list(loader)
    assert len(batches) == len(loader)
    assert [fresh for (_, fresh), _ in batches] == [True] + [False] * (len(batches) - 1)
    assert all(x.shape == y.shape and x.shape[1] == streams for (x, _), y in batches)
    assert {len(y) for _, y in batches[:-1]} <= {window} and 1 <= len(batches[-1][1]) <= window
    x = np.concatenate([x.numpy() for (x, _), _ in batches])
    y = np.concatenate([y.numpy() for _, y in batches])
    assert (y == x + 1).all()
    assert (x.T.flatten() == np.arange(x.size)).all() and n - 1 - x.size < streams


@pytest.mark.parametrize(
    "n, streams, window, message",
    [
        (12, 3, 4, "received 12 ids, too few: 3 streams of a window of 4 and the ids that follow need 13"),
        (0, 1, 1, "received 0 ids, too few"),
        (9, 0, 4, "streams=0; pass an integer of at least 1"),
        (9, 1, 1.5, "window=1.5; pass an integer of at least 1"),
    ],
)
def test_streams_that_cannot_be(n, streams, window, message):
    with pytest.raises(ValueError, match=message):
        Streams(cr.arange(n), streams, window)


# ---- training on streams ---------------------------------------------------------------------------------------------


class Leak(nn.Module):
    """s_t = w s_{t−1} + x_t, as a model (x (T, B), state) → (all s, the last): its derivatives are known."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(cr.tensor(0.5, dtype=cr.float64))

    def forward(self, x, state):
        states = []
        for row in x.double():
            state = row if state is None else self.w * state + row
            states.append(state)
        return cr.stack(states), state


def stateful(**options):
    model = Leak()
    loss = lambda output, y: output.sum()
    return nn.StatefulTrainer(model, loss, optim.SGD(model.parameters(), lr=0.0), metrics={}, verbose=False, **options)


def test_a_state_may_be_none_and_holds_tensors_alone():
    trainer, window = stateful(), (cr.ones(3, 2), False)
    trainer.model.forward = lambda x, state: (x, [x, None])
    trainer.output(window)
    assert isinstance(trainer.state, list) and trainer.state[1] is None
    trainer.model.forward = lambda x, state: (x, {"h": x})
    with pytest.raises(TypeError, match="detach_state: received a state of type dict"):
        trainer.output(window)


def test_states_are_carried_and_gradients_end_at_the_window():
    """Values reach through the whole stream; ∂/∂w treats the state that enters a window as a constant."""
    trainer, loader = stateful(), Streams(cr.arange(9.0), 2, 3)
    seen = []
    for x, _ in loader:
        output = trainer.output(x)
        trainer.model.zero_grad()
        output.sum().backward()
        seen.append((output.detach().numpy(), trainer.model.w.grad.item()))
    x, w = np.arange(8.0).reshape(2, 4).T, 0.5
    s = [x[0]]
    for row in x[1:]:
        s.append(w * s[-1] + row)
    np.testing.assert_allclose(np.concatenate([values for values, _ in seen]), s)
    assert seen[0][1] == (s[0] + (s[1] + w * s[0])).sum()  # ∂s₁/∂w + ∂s₂/∂w
    assert seen[1][1] == s[2].sum()  # ∂s₃/∂w with s₂ constant


def test_every_pass_begins_without_a_state():
    trainer, loader = stateful(), Streams(cr.arange(9.0), 2, 3)
    history = trainer.fit(loader, loader, epochs=3)
    assert len({row["loss"] for row in history} | {row["val_loss"] for row in history}) == 1
    assert trainer.evaluate(loader)["loss"] == history[0]["loss"]


def test_states_may_be_nested():
    class Nested(Leak):
        def forward(self, x, state):
            output, state = super().forward(x, None if state is None else state[0])
            return output, (state, (state, state))

    trainer = stateful()
    trainer.model = Nested()
    list(map(trainer.output, (x for x, _ in Streams(cr.arange(9.0), 2, 3))))
    assert not any(part.requires_grad for part in (trainer.state[0], *trainer.state[1]))
