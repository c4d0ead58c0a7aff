"""The fusion network: one token per modality, weighed by attention.

A missing modality is a learned token, not a zero. Sizes are our choice (the paper's abstract
leaves them open): ResNet and BERT depths come from the bundle's configuration; ResNet-50 and
BioBERT are the same code with other numbers.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel

from bonetumor.domain.assessment import Modality, TumourClass
from bonetumor.domain.errors import InvalidInput
from bonetumor.domain.labs import WEIGHED
from bonetumor.fusion.evidence import PATTERNS, CaseTensors

DESIGNS = ("tokens", "concatenation")  # the latter as in the paper, to compare with
RESNET_50 = {
    "embedding_size": 64,
    "hidden_sizes": [256, 512, 1024, 2048],
    "depths": [3, 4, 6, 3],
    "layer_type": "bottleneck",
}
SMALL_RESNET = {
    "embedding_size": 24,
    "hidden_sizes": [24, 48, 96, 192],
    "depths": [2, 2, 2, 2],
    "layer_type": "basic",
}
SMALL_BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "hidden_dropout_prob": 0.1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FusionConfig:
    """The sizes of the network; kept in the bundle's manifest.

    `pixel_mean`, `pixel_deviation`: of red, green and blue, 0..1. Both ResNets see pixels less the
    one, over the other; a grey crop those of the three's mean.
    """

    vocabulary_size: int
    resnet: dict[str, object] = field(default_factory=lambda: dict(SMALL_RESNET))
    bert: dict[str, object] = field(default_factory=lambda: dict(SMALL_BERT))
    width: int = 96
    heads: int = 4
    layers: int = 2
    dropout: float = 0.2
    design: str = "tokens"
    pixel_mean: list[float] = field(default_factory=lambda: [0.0] * 3)
    pixel_deviation: list[float] = field(default_factory=lambda: [1.0] * 3)

    def __post_init__(self) -> None:
        if not len(self.pixel_mean) == len(self.pixel_deviation) == 3:
            raise InvalidInput("fusion: expected a pixel mean and deviation of each of 3 colours")
        if min(self.pixel_deviation) <= 0:
            raise InvalidInput(
                f"fusion: expected pixel deviations above 0, got {self.pixel_deviation}"
            )
        if self.design not in DESIGNS:
            raise InvalidInput(f"fusion: expected a design of {DESIGNS}, got {self.design}")


class FusionNetwork(nn.Module):
    """Image, pathology and blood in; three logits out."""

    pixel_mean: Tensor
    pixel_deviation: Tensor

    def __init__(self, config: FusionConfig) -> None:
        super().__init__()
        self.image_encoder = _resnet(config, channels=1)
        self.slide_encoder = _resnet(config, channels=3)
        self.text_encoder = BertModel(
            BertConfig(vocab_size=config.vocabulary_size, **config.bert), add_pooling_layer=False
        )
        features = cast(list[int], config.resnet["hidden_sizes"])[-1]
        self.image_projection = nn.Linear(features, config.width)
        self.attention = GatedAttention(features, 64)
        self.slide_projection = nn.Linear(features, config.width)
        numbers = 2 * len(WEIGHED)
        text_width = cast(int, config.bert["hidden_size"])
        self.blood_projection = nn.Sequential(
            nn.Linear(text_width + numbers, config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
        )
        self.missing = nn.Parameter(torch.randn(len(Modality), config.width) * 0.02)
        self.place = nn.Parameter(torch.randn(len(Modality) + 1, config.width) * 0.02)
        self.summary = nn.Parameter(torch.randn(config.width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            config.width, config.heads, 2 * config.width, config.dropout, "gelu", batch_first=True
        )
        self.mixer = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        for name in ("pixel_mean", "pixel_deviation"):
            of_colours = torch.tensor(getattr(config, name)).view(3, 1, 1)
            self.register_buffer(name, of_colours, persistent=False)
        self.design = config.design
        joined = len(Modality) * config.width
        self.head: nn.Module = nn.Linear(config.width, len(TumourClass))
        if config.design == "concatenation":
            self.head = nn.Sequential(
                nn.Linear(joined, config.width),
                nn.GELU(),
                nn.Dropout(config.dropout),
                nn.Linear(config.width, len(TumourClass)),
            )

    def forward(self, cases: Sequence[CaseTensors]) -> Tensor:
        """Logits, shape (cases, 3), in the order of TumourClass."""
        return self.mix(self.encode(cases))

    def encode(self, cases: Sequence[CaseTensors]) -> list[Tensor]:
        """One token per modality, each of shape (cases, width); a learned one where missing."""
        return [self.encode_images(cases), self._slides(cases), self.encode_blood(cases)]

    def missing_tokens(self, count: int) -> list[Tensor]:
        """The tokens of cases that have nothing at all."""
        return [self._missing_rows(modality, count) for modality in Modality]

    def mix(self, columns: list[Tensor]) -> Tensor:
        """Logits from the tokens, shape (cases, 3)."""
        count = len(columns[0])
        if self.design == "concatenation":
            return cast(Tensor, self.head(torch.cat(columns, dim=1)))
        tokens = torch.stack([self.summary.expand(count, -1), *columns], dim=1)
        return cast(Tensor, self.head(self.mixer(tokens + self.place)[:, 0]))

    def mix_subsets(
        self, tokens: list[Tensor], used: Collection[Modality]
    ) -> dict[tuple[Modality, ...], Tensor]:
        """Logits, shape (3,), of each subset of the modalities used, as PATTERNS has them, from
        the tokens of a single case."""
        return {
            pattern: self.mix(columns)[0].cpu() for pattern, columns in self.subsets(tokens, used)
        }

    def subsets(
        self, tokens: list[Tensor], used: Collection[Modality]
    ) -> Iterator[tuple[tuple[Modality, ...], list[Tensor]]]:
        """The tokens of each subset of the modalities used, missing ones in the others' place;
        each of shape (cases, width)."""
        absent = self.missing_tokens(len(tokens[0]))
        for pattern in PATTERNS:
            if {*used}.issuperset(pattern):
                yield (
                    pattern,
                    [
                        token if modality in pattern else missing
                        for modality, token, missing in zip(Modality, tokens, absent, strict=True)
                    ],
                )

    def encode_images(self, cases: Sequence[CaseTensors]) -> Tensor:
        """The token of the image alone, shape (cases, width)."""
        present = [i for i, c in enumerate(cases) if c.crop is not None]
        rows = self._missing_rows(Modality.IMAGE, len(cases))
        if present:
            crops = torch.stack([cast(Tensor, cases[i].crop) for i in present])
            crops = self._normalised(crops.to(rows.device))
            encoded = self.image_encoder(crops).pooler_output.flatten(1)
            rows = rows.index_copy(
                0, _index(present, rows), self.image_projection(encoded).to(rows.dtype)
            )
        return rows

    def _slides(self, cases: Sequence[CaseTensors]) -> Tensor:
        present = [i for i, c in enumerate(cases) if c.tiles is not None]
        rows = self._missing_rows(Modality.PATHOLOGY, len(cases))
        if present:
            bags = [cast(Tensor, cases[i].tiles) for i in present]
            tiles = torch.cat(bags).to(rows.device).float().div(255.0)
            encoded = self.slide_encoder(self._normalised(tiles)).pooler_output.flatten(1)
            pooled = [self.attention(bag) for bag in encoded.split([len(b) for b in bags])]
            projected = self.slide_projection(torch.stack(pooled))
            rows = rows.index_copy(0, _index(present, rows), projected.to(rows.dtype))
        return rows

    def encode_blood(self, cases: Sequence[CaseTensors]) -> Tensor:
        """The token of the blood alone, shape (cases, width)."""
        present = [i for i, c in enumerate(cases) if c.tokens is not None]
        rows = self._missing_rows(Modality.LABS, len(cases))
        if present:
            tokens = nn.utils.rnn.pad_sequence(
                [cast(Tensor, cases[i].tokens) for i in present], batch_first=True
            ).to(rows.device)
            text = self.text_encoder(tokens, attention_mask=(tokens != 0).long()).last_hidden_state
            numbers = torch.stack([cast(Tensor, cases[i].ratios) for i in present]).to(rows.device)
            joined = torch.cat([text[:, 0], numbers], dim=1)
            projected = self.blood_projection(joined).to(rows.dtype)
            rows = rows.index_copy(0, _index(present, rows), projected)
        return rows

    def _normalised(self, pictures: Tensor) -> Tensor:
        """Pictures, 0..1, shape (n, 1 or 3, rows, columns), as the ResNets see them."""
        mean, deviation = self.pixel_mean, self.pixel_deviation
        if pictures.shape[1] == 1:
            mean, deviation = mean.mean(dim=0), deviation.mean(dim=0)
        return (pictures - mean) / deviation

    def _missing_rows(self, modality: Modality, count: int) -> Tensor:
        return self.missing[list(Modality).index(modality)].expand(count, -1)


class GatedAttention(nn.Module):
    """Attention-based multiple-instance pooling with gating (Ilse et al., ICML 2018)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.content = nn.Linear(features, hidden)
        self.gate = nn.Linear(features, hidden)
        self.weight = nn.Linear(hidden, 1)

    def forward(self, tiles: Tensor) -> Tensor:
        """`tiles`: (tiles, features). Returns their weighted mean, (features,)."""
        scores = self.weight(torch.tanh(self.content(tiles)) * torch.sigmoid(self.gate(tiles)))
        return (torch.softmax(scores, dim=0) * tiles).sum(dim=0)


def _resnet(config: FusionConfig, *, channels: int) -> ResNetModel:
    return ResNetModel(ResNetConfig(num_channels=channels, **config.resnet))


def _index(rows: list[int], like: Tensor) -> Tensor:
    return torch.tensor(rows, device=like.device)
