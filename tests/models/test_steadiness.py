"""That the words for the same blood move the answer little: what training and calibration do."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from bonetumor.domain.assessment import Modality, TumourClass
from bonetumor.fusion.calibration import calibrate, scaled
from bonetumor.fusion.evidence import Preparation, modalities, only
from bonetumor.fusion.network import FusionConfig, FusionNetwork
from bonetumor.fusion.paraphrases import paraphrase
from bonetumor.fusion.text import describe, stand_in_vocabulary, tokenizer_from
from bonetumor.fusion.train import FusionTraining, train_fusion
from bonetumor.phantom.blood import draw_blood
from bonetumor.phantom.tumour import draw_age, draw_type
from kit.studies import panel_from

WORDINGS, GREATEST_MOVE = 20, 0.03
VOCABULARY = stand_in_vocabulary()
TOKENIZER = tokenizer_from(VOCABULARY)


def _blood(seed, count):
    """Blood of phantom patients, without the pictures, and their classes."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        kind = draw_type(rng)
        markers = draw_blood(kind, draw_age(kind, rng), "M", rng)
        yield panel_from(markers), list(TumourClass).index(kind.tumour_class)


def _cases(seed, count, wordings):
    preparation = Preparation(96, 128, TOKENIZER, wordings)
    return [(preparation.prepare(None, None, None, p), y) for p, y in _blood(seed, count)]


def _trained(wordings):
    plan = FusionTraining(epochs=8, wordings=wordings)
    learnt, apart = _cases(1, 240, wordings), _cases(2, 80, wordings)
    trained = train_fusion(plan, learnt, apart, VOCABULARY, lambda _: None)
    network = FusionNetwork(FusionConfig(vocabulary_size=len(VOCABULARY.splitlines())))
    network.load_state_dict(trained.state)
    biases = trained.config["biases"]["labs"].values()
    return network.eval(), (trained.config["temperatures"]["labs"], list(biases))


@torch.no_grad()
def _moves(network, scaling):
    """Of each patient the template's probabilities, and how far other wordings move one."""
    preparation = Preparation(96, 128, TOKENIZER)
    usual, moves = [], []
    for number, (panel, _) in enumerate(_blood(3, 120)):
        if panel.abnormal:
            chance = random.Random(number)
            texts = [describe(panel), *(paraphrase(panel, chance) for _ in range(WORDINGS))]
            cases = [preparation.prepare(None, None, None, panel, text) for text in texts]
            first, *others = scaled(network(cases), *scaling)
            usual.append(first)
            moves.append(max(float((other - first).abs().max()) for other in others))
    return torch.stack(usual), moves


def test_words_move_no_probability_of_a_network_that_learnt_with_paraphrases():
    usual, moves = _moves(*_trained(FusionTraining().wordings))
    assert len(moves) > 30
    assert max(moves) <= GREATEST_MOVE
    assert float(usual.std(dim=0).max()) > GREATEST_MOVE  # it does read the blood


def test_words_move_a_network_that_has_seen_the_template_only():
    _, moves = _moves(*_trained(0))
    assert max(moves) > 2 * GREATEST_MOVE


def test_wordings_go_with_the_blood():
    case, _ = next(c for c in _cases(4, 40, 3) if c[0].wordings)
    assert len(case.wordings) == 3
    assert all(not torch.equal(case.tokens, tokens) for tokens in case.wordings)
    assert only(case, [Modality.IMAGE]).wordings is None


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(5)
    return FusionNetwork(FusionConfig(vocabulary_size=len(VOCABULARY.splitlines()))).eval()


def test_sets_allow_for_the_hardest_wording_and_count_a_patient_once(network):
    """What is calibrated with several wordings covers each of them."""
    cases = _cases(6, 90, 4)
    with_all, metrics = calibrate(network, cases, miss_rate=0.1)
    alone = [(replace(case, wordings=()), label) for case, label in cases]
    without, _ = calibrate(network, alone, miss_rate=0.1)
    assert metrics["labs"]["n"] == len(cases)
    for c in TumourClass:
        assert (
            with_all.least_probabilities["labs"][c] <= without.least_probabilities["labs"][c] + 1e-2
        )
    covered = {c: [] for c in TumourClass}
    scaling = with_all.temperatures["labs"], list(with_all.biases["labs"].values())
    for case, label in cases:
        c = list(TumourClass)[label]
        least = with_all.least_probabilities["labs"][c]
        worded = [case, *(replace(case, tokens=t) for t in case.wordings)]
        with torch.no_grad():
            answers = scaled(network(worded), *scaling)[:, label]
        covered[c].append(bool((answers >= least - 1e-6).all()))
        assert modalities(case) == (Modality.LABS,)
    for c, each in covered.items():
        assert np.mean(each) >= 0.9, c
