"""A small causal model, trained here on templates: from its folder to the tokens of the network."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from bonetumor.domain.assessment import TumourClass
from bonetumor.domain.errors import Misconfigured
from bonetumor.domain.image import BoundingBox, ClinicalImage, ImageReference
from bonetumor.domain.labs import Analyte, LabPanel, LabResult
from bonetumor.fusion.classifier import FusionClassifier
from bonetumor.fusion.evidence import PATTERNS
from bonetumor.fusion.language_model import _INSTRUCTION, hash_folder, language_model_writer
from bonetumor.fusion.text import NAMES, TEMPLATE, describe, template_text
from bonetumor.fusion.wording import CheckedWriter, find_faults
from bonetumor.service.ports import FusionInput
from bonetumor.weights.bundle import open_bundle, synthetic_bundle

CHAT = (
    "{% for m in messages %}<|{{ m.role }}|> {{ m.content }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|> {% endif %}"
)
MARKERS = (
    (Analyte.ALP, 40.0, 100.0),
    (Analyte.LDH, 125.0, 200.0),
    (Analyte.PLATELETS, 150.0, 400.0),
)
VALUES = tuple(float(v) for v in range(500, 530, 3))


def panel(*values):
    """A panel of the markers with a value, all of them high."""
    results = (
        LabResult(analyte=a, value=v, unit="U/L", low=low, high=high, taken_at=None, source=str(a))
        for (a, low, high), v in zip(MARKERS, values, strict=True)
        if v
    )
    return LabPanel(results=tuple(results))


def wanted(one):
    """How the model is taught to word a panel: not as the template does."""
    return " ".join(
        f"{NAMES[r.analyte]} measured {r.value:g} {r.unit} and is raised." for r in one.abnormal
    )


def draw(chance):
    return panel(*(chance.choice(VALUES) for _ in MARKERS))


def _tokenizer(folder, panels):
    from transformers import PreTrainedTokenizerFast

    texts = [f"{_INSTRUCTION}\nFindings: {describe(p)} {wanted(p)}" for p in panels]
    split = pre_tokenizers.WhitespaceSplit()
    special = ["[UNK]", "<|end|>", "<|user|>", "<|assistant|>"]
    words = dict.fromkeys(special)
    for text in texts:
        words |= dict.fromkeys(w for w, _ in split.pre_tokenize_str(text))
    fast = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    fast.pre_tokenizer = split
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=fast, unk_token="[UNK]", eos_token="<|end|>", chat_template=CHAT
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def _chat(tokenizer, one):
    """The tokens of a whole conversation, and how many of them are the question."""
    ask = [{"role": "user", "content": f"{_INSTRUCTION}\nFindings: {describe(one)}"}]
    told = [*ask, {"role": "assistant", "content": wanted(one)}]
    question, whole = (
        tokenizer(tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=g))
        for c, g in ((ask, True), (told, False))
    )
    return whole["input_ids"], len(question["input_ids"])


def _trained(tokenizer, panels, steps):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    chats = [_chat(tokenizer, p) for p in panels]
    tokens = torch.tensor([ids for ids, _ in chats])  # all of one length
    network = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_positions=160, n_embd=64, n_layer=2, n_head=4,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            bos_token_id=1, eos_token_id=1,
        )
    )  # fmt: skip
    assert sum(p.numel() for p in network.parameters()) < 1_000_000
    labels = tokens.clone()
    labels[:, : chats[0][1]] = -100
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    chance = random.Random(0)
    for _ in range(steps):
        rows = chance.sample(range(len(tokens)), 16)
        loss = network(tokens[rows], labels=labels[rows]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval(), float(loss.detach())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The trained model, as anyone would put one into a folder."""
    made = tmp_path_factory.mktemp("models") / "small-model"
    chance = random.Random(1)
    panels = [draw(chance) for _ in range(400)]
    tokenizer = _tokenizer(made, panels)
    network, loss = _trained(tokenizer, panels, 450)
    assert loss < 0.05
    network.save_pretrained(made)
    return made


def _evidence(one, text):
    reference = ImageReference(
        sop_instance_uid="1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
        series_instance_uid="1.9",
        frame_number=None,
        rows=96,
        columns=96,
    )
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96), np.uint8)
    return FusionInput(
        image=ClinicalImage(reference=reference, pixels=pixels),
        box=BoundingBox(x0=20, y0=20, x1=70, y1=70),
        slides=None,
        labs=one,
        out_of_distribution=False,
        text=text,
    )


def _read_by(classifier, evidence):
    """The diagnosis, and the tokens that came to the text encoder, in order."""
    seen = []
    encoder = classifier._network.text_encoder
    hook = encoder.register_forward_pre_hook(lambda _module, given: seen.append(given[0][0]))
    try:
        return classifier.diagnose(evidence), [tokens.tolist() for tokens in seen]
    finally:
        hook.remove()


def test_a_model_from_a_folder_words_panels_it_has_never_seen(folder):
    model = language_model_writer(folder)
    writer = CheckedWriter(model, model.writer)
    chance = random.Random(99)
    for _ in range(5):
        one = draw(chance)
        written = writer.write(one)
        assert written.note == ""
        assert written.writer == model.writer
        assert written.text != describe(one)
        assert find_faults(written.text, one) == []
        assert model(one) == model(one)


def test_its_text_comes_to_the_tokens_of_the_network(folder, monkeypatch):
    model = language_model_writer(folder)
    one = draw(random.Random(100))
    text = CheckedWriter(model, model.writer).write(one)
    classifier = FusionClassifier(open_bundle(synthetic_bundle()), device="cpu")
    tokenizer = classifier.preparation.tokenizer
    own, usual = (tokenizer(t)["input_ids"] for t in (text.text, describe(one)))
    assert own != usual
    # However far the words move this network: that is another test's.
    monkeypatch.setattr(FusionClassifier, "_is_moved", lambda *_: False)
    diagnosis, seen = _read_by(classifier, _evidence(one, text))
    assert seen == [own, usual]  # the latter to compare with
    assert diagnosis.blood_text == text
    silent, seen = _read_by(classifier, _evidence(one, None))
    assert seen == [usual]
    assert silent.blood_text == template_text(one)
    assert diagnosis.probabilities != silent.probabilities


@pytest.fixture
def worded(folder):
    """A panel that the language model has worded, and the classifier that is to read it."""
    model = language_model_writer(folder)
    one = draw(random.Random(101))
    text = CheckedWriter(model, model.writer).write(one)
    assert text.writer == model.writer
    return one, text, FusionClassifier(open_bundle(synthetic_bundle()), device="cpu")


@pytest.mark.parametrize("greatest", [0.0, 1.0])
def test_words_that_would_move_a_probability_too_far_are_not_read(worded, greatest, monkeypatch):
    one, text, classifier = worded
    monkeypatch.setattr("bonetumor.fusion.classifier._GREATEST_MOVE", greatest)
    monkeypatch.setattr(classifier, "_least", _thresholds(0.0))  # all classes in every set
    diagnosis = classifier.diagnose(_evidence(one, text))
    if greatest:
        assert diagnosis.blood_text == text
        return
    read = diagnosis.blood_text
    assert (read.text, read.writer) == (describe(one), TEMPLATE)
    assert read.note.startswith(f"the text of {text.writer} was not used: it would move")
    assert diagnosis == replace(classifier.diagnose(_evidence(one, None)), blood_text=read)


def test_words_that_would_change_the_prediction_set_are_not_read(worded, monkeypatch):
    one, text, classifier = worded
    monkeypatch.setattr("bonetumor.fusion.classifier._GREATEST_MOVE", 1.0)
    monkeypatch.setattr(classifier, "_least", _thresholds(2.0))  # none in any
    moved = classifier.diagnose(_evidence(one, text))
    assert moved.blood_text == text
    usual = classifier.diagnose(_evidence(one, None)).probabilities
    between = {c: (usual[c] + moved.probabilities[c]) / 2 for c in TumourClass}
    monkeypatch.setattr(classifier, "_least", {"image+labs": between})
    assert classifier.diagnose(_evidence(one, text)).blood_text.writer == TEMPLATE


def _thresholds(least):
    return {"+".join(pattern): dict.fromkeys(TumourClass, least) for pattern in PATTERNS}


def test_a_text_without_an_end_gives_way_to_the_template(folder, monkeypatch):
    model = language_model_writer(folder)
    monkeypatch.setattr("bonetumor.fusion.language_model._MAX_NEW_TOKENS", 5)
    one = draw(random.Random(102))
    written = CheckedWriter(model, model.writer).write(one)
    assert (written.text, written.writer) == (describe(one), TEMPLATE)
    assert "expected an end within 5 tokens" in written.note


def test_a_request_beyond_what_the_model_can_hold_gives_way_to_the_template(folder):
    model = language_model_writer(folder)
    long = panel(*[VALUES[0]] * 3)
    long = replace(long, results=tuple(replace(r, unit="U/L " * 60) for r in long.results))
    written = CheckedWriter(model, model.writer).write(long)
    assert (written.text, written.writer) == (describe(long), TEMPLATE)
    assert "it ended with" in written.note


def test_a_model_without_a_chat_template_goes_on_with_a_text(folder):
    model = language_model_writer(folder)
    asked = model._tokenizer.decode(model._asked("a b")["input_ids"][0])
    assert asked.startswith("<|user|>")
    assert asked.endswith("<|assistant|>")
    model._tokenizer.chat_template = None
    plain = model._asked("high at")["input_ids"][0]
    assert "<|user|>" not in model._tokenizer.decode(plain)


def test_the_writer_is_the_folder_by_its_files(folder):
    writer = language_model_writer(folder).writer
    assert (writer.name, writer.version) == ("small-model", hash_folder(folder))
    (folder / ".cache").mkdir()
    (folder / ".cache" / "downloaded").write_text("yesterday")
    assert hash_folder(folder) == writer.version
    config = folder / "generation_config.json"
    before = config.read_text()
    config.write_text(before + "\n")
    assert hash_folder(folder) != writer.version
    config.write_text(before)


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(Misconfigured, match="expected a language model"):
        language_model_writer(tmp_path)
