"""A backend that asks a real one once for each input: tests that look at one study in many ways."""

from dataclasses import dataclass, field

from bleedmap.arrays import FloatArray
from bleedmap.inference.backends import Backend, BackendRecord, Prediction


@dataclass(frozen=True, eq=False)
class Remembering:
    """What `asked` said of slices, kept."""

    asked: Backend
    said: dict[bytes, Prediction] = field(default_factory=dict)

    @property
    def record(self) -> BackendRecord:
        return self.asked.record

    def predict(self, slices: FloatArray) -> Prediction:
        key = slices.tobytes()
        if key not in self.said:
            self.said[key] = self.asked.predict(slices)
        return self.said[key]
