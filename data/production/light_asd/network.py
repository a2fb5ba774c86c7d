"""Light-ASD's network, so that its public weights load by name: does the face that is seen say what is heard?

"A Light Weight Model for Active Speaker Detection", Liao et al., CVPR 2023 (section 3); its weights are at
github.com/Junhua-Liao/Light-ASD under the MIT licence. Attribute names are those of its state dict. Shapes: B face
tracks, T video frames, 4 T rows of sound.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from utils.errors import UserError

GREY_MEAN, GREY_SD = 0.4161, 0.1688  # of the training set's crops, as the published network has them
N_CHANNELS = (32, 64, 128)
WEIGHTS_URL = "https://github.com/Junhua-Liao/Light-ASD/raw/main/weight/finetuning_TalkSet.model"
FETCH = f"curl -L --create-dirs -o checkpoints/finetuning_TalkSet.model {WEIGHTS_URL}"


class SplitBlock(nn.Module):
    """Two paths of kernel size 3 and 5, each a convolution over space (or pitch), then one over time; their sum, mixed.

    names: of the two in the weights, (s)pace or (m)el, and (t)ime. stride: of the convolutions over space.
    """

    def __init__(self, n_in: int, n_out: int, names: tuple[str, str], stride: int | tuple[int, ...] = 1):
        super().__init__()
        self.names = names
        is_video = names[0] == "s"
        self._conv = nn.Conv3d if is_video else nn.Conv2d
        self._norm = nn.BatchNorm3d if is_video else nn.BatchNorm2d
        for k in (3, 5):
            space, time = ((1, k, k), (k, 1, 1)) if is_video else ((k, 1), (1, k))
            self._add(f"{names[0]}_{k}", n_in, n_out, space, stride)
            self._add(f"{names[1]}_{k}", n_out, n_out, time)
        self._add("last", n_out, n_out, (1,) * len(space))

    def _add(
        self, name: str, n_in: int, n_out: int, kernel: tuple[int, ...], stride: int | tuple[int, ...] = 1
    ) -> None:
        padding = tuple(side // 2 for side in kernel)
        setattr(self, name, self._conv(n_in, n_out, kernel, stride=stride, padding=padding, bias=False))
        setattr(self, f"bn_{name}", self._norm(n_out, eps=0.001, momentum=0.01))

    def _apply_layer(self, name: str, x: Tensor) -> Tensor:
        return torch.relu(getattr(self, f"bn_{name}")(getattr(self, name)(x)))

    def forward(self, x: Tensor) -> Tensor:
        space, time = self.names
        paths = (self._apply_layer(f"{time}_{k}", self._apply_layer(f"{space}_{k}", x)) for k in (3, 5))
        return self._apply_layer("last", sum(paths))


class VisualEncoder(nn.Module):
    """Grey crops (B, 1, T, 112, 112), normalised -> (B, T, 128)."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = N_CHANNELS
        self.block1 = SplitBlock(1, a, ("s", "t"), stride=(1, 2, 2))
        self.block2 = SplitBlock(a, b, ("s", "t"))
        self.block3 = SplitBlock(b, c, ("s", "t"))
        self.pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.pool(self.block2(self.pool(self.block1(x)))))  # (B, 128, T, 14, 14)
        return x.amax(dim=(3, 4)).transpose(1, 2)


class AudioEncoder(nn.Module):
    """MFCC (B, 1, 13, 4 T) -> (B, T, 128)."""

    def __init__(self) -> None:
        super().__init__()
        a, b, c = N_CHANNELS
        self.block1 = SplitBlock(1, a, ("m", "t"))
        self.block2 = SplitBlock(a, b, ("m", "t"))
        self.block3 = SplitBlock(b, c, ("m", "t"))
        self.pool = nn.MaxPool2d((1, 3), stride=(1, 2), padding=(0, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.pool(self.block2(self.pool(self.block1(x)))))  # (B, 128, 13, T)
        return x.mean(dim=2).transpose(1, 2)


class TwoWayGru(nn.Module):
    """A GRU forwards, then one backwards over what it gives."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.gru_forward = nn.GRU(n, n, batch_first=True)
        self.gru_backward = nn.GRU(n, n, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.gelu(self.gru_forward(x)[0])
        x = self.gru_backward(x.flip(1))[0].flip(1)
        return nn.functional.gelu(x)


class Head(nn.Module):
    """Features -> logits of "silent" and "speaking"."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.FC = nn.Linear(n, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.FC(x)


class LightAsd(nn.Module):
    """Face crops and sound of tracks -> how surely each face speaks in each frame."""

    def __init__(self) -> None:
        super().__init__()
        width = N_CHANNELS[-1]
        self.model = nn.ModuleDict(
            {"visualEncoder": VisualEncoder(), "audioEncoder": AudioEncoder(), "GRU": TwoWayGru(width)}
        )
        self.lossAV = Head(width)

    @classmethod
    def load(cls, path: str | Path, device: str = "cpu") -> "LightAsd":
        """Load the published weights. Raises UserError for a file that is missing or holds something else."""
        if not Path(path).is_file():
            raise UserError(f"{path}: Light-ASD's weights are not there; get them with: {FETCH}")
        network = cls()
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)
            # lossV, a head on the pictures alone, is for training.
            network.load_state_dict({name: value for name, value in weights.items() if not name.startswith("lossV.")})
        except (RuntimeError, OSError, AttributeError, ValueError, EOFError) as error:
            raise UserError(f"{path}: not Light-ASD's weights ({error}); get them with: {FETCH}") from error
        return network.to(device).eval()

    def forward(self, crops: Tensor, mfcc: Tensor) -> Tensor:
        """Logits (B, T) of "speaking": over 0 is yes. crops: grey levels (B, T, 112, 112); mfcc: (B, 4 T, 13)."""
        seen = self.model["visualEncoder"](((crops / 255 - GREY_MEAN) / GREY_SD)[:, None])
        heard = self.model["audioEncoder"](mfcc[:, None].transpose(2, 3))
        return self.lossAV(self.model["GRU"](seen + heard))[..., 1]
