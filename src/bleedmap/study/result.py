"""What segmenting one study gives: arrays, findings, checks, and everything a report states about them."""

from dataclasses import dataclass

from bleedmap.inference.backends import BackendRecord
from bleedmap.inference.certainty import Certainty
from bleedmap.inference.weights import WeightsFile
from bleedmap.io.dicom.acquisition import Acquisition
from bleedmap.io.dicom.series import DicomSeries
from bleedmap.io.nifti import NiftiGrid
from bleedmap.study.findings import Findings
from bleedmap.study.gate.check import Check
from bleedmap.volume import Mask, ProbabilityMap, Volume


@dataclass(frozen=True, eq=False)
class Result:
    """One segmented study. An empty mask is a result too.

    Attributes:
        name: begins the names of its files; the input's file or folder name, made fit for a file's.
        source: the input's path as given; 'volume' for one in memory.
        volume: in HU, in the standard view: slices feet to head, rows front to back, columns right to left.
        mask: on the same grid.
        probability: on the same grid.
        findings: lesions, volumes, slices.
        checks: of the input gate, in a fixed order.
        acquisition: how the scan was made, where known.
        dicom: the series that was read; None for other inputs.
        nifti: the file's own grid; None for other inputs.
        weights: the network's file.
        backend: what computed.
        threshold: lesion from this probability on.
        notes: sentences for the reader: what reading and segmenting had to decide.
        certainty: how sure the program is; None for weights that do not say.
    """

    name: str
    source: str
    volume: Volume
    mask: Mask
    probability: ProbabilityMap
    findings: Findings
    checks: tuple[Check, ...]
    acquisition: Acquisition
    dicom: DicomSeries | None
    nifti: NiftiGrid | None
    weights: WeightsFile
    backend: BackendRecord
    threshold: float
    notes: tuple[str, ...]
    certainty: Certainty | None = None

    @property
    def found(self) -> bool:
        """Whether any voxel is marked."""
        return self.findings.found

    @property
    def volume_ml(self) -> float:
        """Volume of all lesions, in mL."""
        return self.mask.volume_ml

    @property
    def warnings(self) -> tuple[Check, ...]:
        """The checks that did not pass, and those whose refusal was overruled."""
        return tuple(one for one in self.checks if one.verdict in ("warning", "refusal"))
