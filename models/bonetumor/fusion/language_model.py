"""A causal language model in a local folder that words the abnormal blood markers."""

import hashlib
import threading
from pathlib import Path
from typing import Any

import torch

from bonetumor.domain.errors import Misconfigured
from bonetumor.domain.labs import LabPanel, Writer
from bonetumor.fusion.text import describe
from bonetumor.fusion.wording import NotWritten

_MAX_NEW_TOKENS = 400
_INSTRUCTION = (
    "Rewrite these laboratory findings as plain sentences. Keep every number and name, add "
    "nothing, name no disease."
)


class LanguageModel:
    """Words blood markers; greedy decoding, so that one machine gives one text for one panel.

    Threads take turns.
    """

    def __init__(self, tokenizer: Any, model: Any, writer: Writer) -> None:
        self.writer = writer
        self._tokenizer = tokenizer
        self._model = model
        self._turn = threading.Lock()

    def __call__(self, panel: LabPanel) -> str:
        """The model's text, not checked.

        Raises:
            NotWritten: the text had not ended after 400 tokens.
        """
        tokens = self._asked(f"{_INSTRUCTION}\nFindings: {describe(panel)}")
        given = tokens["input_ids"].shape[1]
        with self._turn, torch.inference_mode():
            answer = self._model.generate(
                **tokens,
                max_new_tokens=_MAX_NEW_TOKENS,
                do_sample=False,
                pad_token_id=self._tokenizer.eos_token_id or 0,
            )[0][given:]
        if len(answer) >= _MAX_NEW_TOKENS:
            raise NotWritten(f"expected an end within {_MAX_NEW_TOKENS} tokens, got none")
        return str(self._tokenizer.decode(answer, skip_special_tokens=True))

    def _asked(self, request: str) -> Any:
        """The tokens of the request: as a chat where the model knows one, else as a text to go on
        with. What thinks aloud is asked not to."""
        if self._tokenizer.chat_template:
            tokens = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": request}],
                add_generation_prompt=True,
                enable_thinking=False,
                return_dict=True,
                return_tensors="pt",
            )
        else:
            tokens = self._tokenizer(f"{request}\nSentences:", return_tensors="pt")
        names = ("input_ids", "attention_mask")  # some tokenizers give types that no model takes
        return {name: tokens[name].to(self._model.device) for name in names}


def language_model_writer(folder: Path, *, device: str = "cpu") -> LanguageModel:
    """The model of a folder in transformers' format, with its tokenizer and chat template.

    Raises:
        Misconfigured: the folder holds no such model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    precision = torch.float32 if device == "cpu" else "auto"
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, dtype=precision
        )
        digest = hash_folder(folder)
    except (OSError, ValueError) as error:
        raise Misconfigured(
            f"model.language_model: expected a language model in {folder}, "
            f"got {type(error).__name__}"
        ) from error
    writer = Writer(name=folder.resolve().name, version=digest, is_language_model=True)
    return LanguageModel(tokenizer, model.eval().to(device), writer)


def hash_folder(folder: Path) -> str:
    """SHA-256 over the names and the SHA-256 of all files in a folder, hidden ones aside: those
    are what downloading left behind."""
    lines = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{digest}  {name.as_posix()}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
