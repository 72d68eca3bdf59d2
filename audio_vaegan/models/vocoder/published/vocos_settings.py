"""The config.yaml of a published Vocos: what it says about the network, and the mel that follows from it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, model_validator

from audio_vaegan.config import MelConfig, Size


class Arguments(BaseModel):
    """The arguments of one of the three parts. Unknown ones are refused: forks use them to change the mel."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Features(Arguments):
    sample_rate: int = 24000
    n_fft: int = 1024
    hop_length: int = 256
    n_mels: int = 100
    padding: Literal["center", "same"] = "center"


class Backbone(Arguments):
    input_channels: Size
    dim: Size
    intermediate_dim: Size
    num_layers: Size
    layer_scale_init_value: float | None = None  # of training
    adanorm_num_embeddings: None = None


class Head(Arguments):
    dim: Size
    n_fft: int
    hop_length: int
    padding: Literal["center", "same"] = "same"


class FeaturesPart(Arguments):
    class_path: Literal["vocos.feature_extractors.MelSpectrogramFeatures"]
    init_args: Features = Features()


class BackbonePart(Arguments):
    class_path: Literal["vocos.models.VocosBackbone"]
    init_args: Backbone


class HeadPart(Arguments):
    class_path: Literal["vocos.heads.ISTFTHead"]
    init_args: Head


class VocosSettings(BaseModel):
    """A published config.yaml: classes, which are compared by name and never imported, and their arguments."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    feature_extractor: FeaturesPart
    backbone: BackbonePart
    head: HeadPart

    @model_validator(mode="after")
    def _consistent(self) -> "VocosSettings":
        features, backbone, head = self.feature_extractor.init_args, self.backbone.init_args, self.head.init_args
        for name in ("n_fft", "hop_length", "padding"):
            ours, theirs = getattr(features, name), getattr(head, name)
            if ours != theirs:
                raise ValueError(f"{name} is {ours} in feature_extractor, {theirs} in head")
        if backbone.input_channels != features.n_mels:
            raise ValueError(f"backbone.input_channels is {backbone.input_channels}, n_mels is {features.n_mels}")
        if backbone.dim != head.dim:
            raise ValueError(f"dim is {backbone.dim} in backbone, {head.dim} in head")
        return self

    def mel(self) -> MelConfig:
        """Vocos takes torchaudio's filterbank as it comes (HTK, not normalised) and floors the mel at 1e-7."""
        f = self.feature_extractor.init_args
        return MelConfig(
            sample_rate=f.sample_rate,
            n_fft=f.n_fft,
            win_length=f.n_fft,
            hop_length=f.hop_length,
            n_mels=f.n_mels,
            f_min=0.0,
            f_max=float(f.sample_rate // 2),
            mel_scale="htk",
            norm=None,
            power=1,
            magnitude_eps=0.0,
            log="ln",
            floor=1e-7,
            padding=f.padding,
            pad_mode="reflect",
        )
