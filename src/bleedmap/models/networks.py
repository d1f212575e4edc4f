"""The networks by name, as numbers only: no torch needed to list them or to read them from a file.

Model 1 and Model 2 are those of the 2021 thesis (Erazo, USFQ); the original is Ronneberger, Fischer and Brox,
U-Net, MICCAI 2015, arXiv:1505.04597.
"""

from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Literal, get_args

from bleedmap.errors import SettingsError

Downsample = Literal["pool", "stride"]


@dataclass(frozen=True)
class UNetSettings:
    """One definition for every U-Net here.

    `filters`: filters of each level, top to bottom; each next level has half the rows and columns.
    `downsample`: between levels 'pool', a 2×2 maximum, or 'stride', the next convolution takes steps of 2.
    """

    filters: tuple[int, ...] = (64, 128, 256, 512)
    channels: int = 1  # input channels
    batch_norm: bool = True  # batch normalisation between a block's second convolution and its ReLU
    dropout: float = 0.0  # rate between the two convolutions of every block
    bottom_dropout: float = 0.0  # rate after the blocks of the two lowest levels of the way down
    kernel: int = 3  # rows and columns of a block's convolutions, odd
    downsample: Downsample = "pool"

    def __post_init__(self) -> None:
        rates = (self.dropout, self.bottom_dropout)
        counted = len(self.filters) >= 2 and min(*self.filters, self.channels) >= 1
        shaped = self.kernel in (1, 3, 5, 7) and self.downsample in get_args(Downsample)
        if not counted or not shaped or not all(0 <= rate < 1 for rate in rates):
            raise SettingsError(
                "network",
                found=f"filters {self.filters}, channels {self.channels}, dropout {rates}, kernel {self.kernel}, "
                f"downsample '{self.downsample}'",
                needed="two or more levels of at least one filter, rates from 0 to below 1, a kernel of 1, 3, 5 or 7, "
                "and downsample 'pool' or 'stride'",
                remedy=f"use one of the named networks: {', '.join(NETWORKS)}",
            )

    @property
    def multiple(self) -> int:
        """Rows and columns are padded to a multiple of this many pixels inside the network."""
        return int(2 ** (len(self.filters) - 1))

    def parameter_count(self) -> int:
        """Trainable numbers, by the formula of each layer; a test holds it against the network itself."""
        down = [self.channels, *self.filters]
        count = sum(self._block(a, b) for a, b in pairwise(down))
        for below, here in zip(self.filters[:0:-1], self.filters[-2::-1], strict=True):
            count += 2 * 2 * below * here + here + self._block(2 * here, here)
        return count + self.filters[0] + 1

    def _block(self, inward: int, outward: int) -> int:
        norm = 2 * outward if self.batch_norm else 0
        return self.kernel**2 * (inward + outward) * outward + 2 * outward + norm

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self) | {"filters": list(self.filters)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "UNetSettings":
        """From `to_dict`.

        Raises:
            SettingsError: an unknown or impossible setting.
        """
        unknown = set(content) - {field.name for field in fields(cls)}
        if unknown:
            raise SettingsError(
                "network",
                found=f"unknown settings {sorted(unknown)}",
                needed=f"only {[field.name for field in fields(cls)]}",
                remedy="update bleedmap, or export the weights again with this version",
            )
        return cls(**(content | {"filters": tuple(content["filters"])}))


# What the heads of a `LiteUNetSettings` network say of a slice: any bleed, then the types in the data set's order.
LABELS = ("presence", "EDH", "IPH", "SDH", "IVH", "SAH")


@dataclass(frozen=True)
class LiteUNetSettings:
    """A U-Net on EfficientNet-Lite0 (`bleedmap.models.lite_unet`).

    `decoder`: filters at 1/16, 1/8, 1/4 and 1/2 of the input, where pixels are told; with a fifth, at its own size.
    """

    channels: int = 3  # neighbouring slices, the middle one is outlined
    decoder: tuple[int, ...] = (128, 64, 48, 32)
    dropout: float = 0.2  # before the head of presence and types

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return {"kind": "lite-unet"} | asdict(self) | {"decoder": list(self.decoder)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "LiteUNetSettings":
        """From `to_dict`."""
        decoder = tuple(map(int, content["decoder"]))
        if len(decoder) not in (4, 5):
            raise ValueError(f"a decoder of {len(decoder)} steps")
        return cls(int(content["channels"]), decoder, float(content["dropout"]))

    @property
    def is_fine(self) -> bool:
        """Whether pixels are told at the input's own size, not at half of it."""
        return len(self.decoder) > 4


OUTPUTS: dict[type, tuple[str, ...]] = {  # of the exported network, by its settings
    UNetSettings: ("probability",),
    LiteUNetSettings: ("probability", "labels", "features"),
}


def settings_from_dict(content: dict[str, Any]) -> UNetSettings | LiteUNetSettings:
    """Either network's definition, as its `to_dict` wrote it.

    Raises:
        SettingsError: an unknown or impossible setting.
    """
    return (LiteUNetSettings if content.get("kind") == "lite-unet" else UNetSettings).from_dict(content)


NETWORKS = {
    "model-1": UNetSettings(),
    "model-2": UNetSettings(dropout=0.1),
    # Padded convolutions, so that the output has the input's size (the paper's are unpadded).
    "original": UNetSettings(filters=(64, 128, 256, 512, 1024), batch_norm=False, bottom_dropout=0.5),
}


def network_settings(name: str) -> UNetSettings:
    """A named network's settings.

    Raises:
        SettingsError: no such name.
    """
    if name not in NETWORKS:
        raise SettingsError(
            "network", found=f"'{name}'", needed=f"one of {', '.join(NETWORKS)}", remedy="give such a name"
        )
    return NETWORKS[name]
