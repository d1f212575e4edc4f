"""Losses of a batch of logits."""

import torch
from torch import Tensor
from torch.nn import functional

from bleedmap.models.lite_unet import Answer
from bleedmap.training.config import Recipe

SMOOTH = 1.0  # pixels; added above and below, so that empty against empty is 1 and costs nothing


def soft_dice(logits: Tensor, reference: Tensor) -> Tensor:
    """Dice of the whole batch, unthresholded, as one number; logits (n, 1, rows, columns), reference of 0 and 1.

    Pooled over the batch, so that a false positive on a lesion-free slice costs.
    """
    probability, reference = torch.sigmoid(logits.float()), reference.float()
    intersection = (probability * reference).sum()
    return (2 * intersection + SMOOTH) / (probability.sum() + reference.sum() + SMOOTH)


def batch_loss(name: str, logits: Tensor, reference: Tensor) -> Tensor:
    """The loss called `name`: 'dice' is -Dice as in the thesis, 'dice+bce' adds binary cross-entropy."""
    loss = -soft_dice(logits, reference)
    if name == "dice+bce":
        loss = loss + functional.binary_cross_entropy_with_logits(logits.float(), reference.float())
    return loss


def lite_losses(answer: Answer, cover: Tensor, labels: Tensor, recipe: Recipe) -> dict[str, Tensor]:
    """The weighted parts of a recipe's loss.

    Args:
        cover: (n, 1, size/2, size/2), or of a fine network (n, 1, size, size), the lesion's share of each pixel; where
            the recipe asks for it, a second channel of the inside of the skull, all 0 where that was not found, as at
            the base.
        labels: (n, 6) 0, 1, or NaN where not known.
    """
    cover, skull, finer = cover[:, :1], cover[:, 1:], 2 if recipe.fine else 1  # than half the input's size
    dice, pixels = _outline_losses(answer.logits, cover, labels, recipe)
    guides: dict[str, Tensor] = {}
    if recipe.deep:
        scales = zip(answer.guides[:2], (4 * finer, 2 * finer), strict=True)
        deep = [
            torch.stack(_outline_losses(logits, functional.avg_pool2d(cover, by), labels, recipe))
            for logits, by in scales
        ]
        guides["deep"] = recipe.deep * torch.stack(deep).sum() / 2
    if recipe.skull:
        skull = functional.avg_pool2d(skull, finer)
        found = skull.amax(dim=(1, 2, 3)) > 0
        told = functional.binary_cross_entropy_with_logits(answer.guides[2].float(), skull, reduction="none")
        guides["skull"] = recipe.skull * (told.mean(dim=(1, 2, 3)) * found).mean()
    said = answer.labels.float()
    if bool((known := ~labels.isnan()).logical_not().any()):  # types that nobody told teach nothing
        said, labels = said[known], labels[known]
    return {
        "dice": dice,
        "pixels": pixels,
        "labels": recipe.labels_weight * functional.binary_cross_entropy_with_logits(said, labels),
        **guides,
    }


def _outline_losses(logits: Tensor, cover: Tensor, labels: Tensor, recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Dice and cross-entropy of pixels."""
    logits, bleeds = logits.float(), labels[:, 0] > 0
    dice = 1 - soft_dice(logits, cover)
    if recipe.slice_dice and bool(bleeds.any()):
        own = torch.stack([1 - soft_dice(logits[one], cover[one]) for one in bleeds.nonzero()[:, 0]]).mean()
        dice = torch.lerp(dice, own, recipe.slice_dice)
    pixels = functional.binary_cross_entropy_with_logits(logits, cover, reduction="none").mean(dim=(1, 2, 3))
    weights = torch.where(bleeds, 1.0, recipe.free_weight)
    return dice, (weights * pixels).mean()
