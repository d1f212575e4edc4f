"""What free text says of contrast and bone, in the languages of large hospital systems: it decides little."""

import pytest

from bleedmap.io.dicom.acquisition import find_contrast_agent, is_bone_series, mentions_contrast

PLAIN = (
    "zonder contrast",
    "Schedel zonder contrast",
    "SEM CONTRASTE",
    "CRANIO SEM CONTRASTE",
    "CT HEAD W/OUT",
    "CT HEAD W/OUT CONTRAST",
    "CT BRAIN NON-ENHANCED",
    "NONENHANCED HEAD",
    "HEAD W/O CONTRAST",
    "HEAD WO",
    "CT HEAD WITHOUT",
    "NATIV 5.0",
    "HEAD C-",
    "Schädel ohne KM",
    "Schaedel o. KM",
    "TDM crâne sans injection",
    "cerveau sans IV",
    "Sans PDC",
    "Cráneo sin contraste",
    "TC CRANEO S/C",
    "TC craneo simple",
    "encefalo senza mdc",
    "ENCEFALO SENZA MEZZO DI CONTRASTO",
    "Hjärna utan kontrast",
    "Hjerne uden kontrast",
    "Caput uten kontrast",
    "Pään TT ilman varjoainetta",
    "Glowa bez kontrastu",
    "mozek nativně",
    "Craniu fara contrast",
    "Koponya kontraszt nélkül",
    "Beyin kontrastsız",
    "Kepala tanpa kontras",
    "Sọ não không cản quang",
    "Εγκέφαλος χωρίς σκιαγραφικό",
    "Голова без контраста",
    "头颅平扫",
    "頭部単純",
    "頭部 非造影",
    "뇌 비조영",
    "Hersenen blanco",
    "Non contrast head",
    "Head_wo_contrast",
    "NCCT 5.0",
    "NO IV CONTRAST",
    "WITHOUT IV CONTRAST",
    "CT HEAD PRE CONTRAST",
    "AVANT INJECTION",
    "smegenys be kontrasto",
    "No contrast",
    "non-con head",
    "NONCONTRAST",
    "CT Head wo con",
    "HEAD -C",
)
GIVEN = (
    "HEAD +C",
    "SCHAEDEL NACH KM",
    "CTA HEAD",
    "POST GAD",
    "CT HEAD WITH CONTRAST",
    "Schädel mit KM",
    "crâne avec injection",
    "apres injection",
    "cráneo con contraste",
    "CRANIO COM CONTRASTE",
    "encefalo con mdc",
    "dopo mdc",
    "schedel met contrast",
    "hjärna med kontrast",
    "glowa z kontrastem",
    "头颅增强",
    "頭部造影",
    "Beyin kontrastlı",
    "Голова с контрастом",
    "HEAD C+",
    "CT ENHANCED HEAD",
    "HEAD POST CONTRAST",
    "CT HEAD W CONTRAST",
    "ANGIO",
    "CT HEAD W/ CONTRAST",
    "kepala dengan kontras",
)
NOT_KNOWN = (
    "HEAD W/WO CONTRAST",
    "HEAD C+/C-",
    "WITHOUT AND WITH CONTRAST",
    "BRAIN 5.0",
    "mit und ohne KM",
    "avec et sans injection",
    "sin y con contraste",
    "HEAD CONTRAST",
    "Schedel contrast",
    "CT Head",
    "Axial 5mm",
    "HEAD SANS FRACTURE",
    "W/O & W CONTRAST",
    "CT COM 5MM",
    "Neuro Hr40",
    "Head 5.0 H31s (enhanced conversion)",  # of highdicom's legacy converted images
    "HEAD EDGE ENHANCED",
)


@pytest.mark.parametrize("description", PLAIN)
def test_a_description_denies_contrast(description):
    assert find_contrast_agent(None, description) == ""


@pytest.mark.parametrize("description", GIVEN)
def test_a_description_names_contrast(description):
    assert "in the series description" in (find_contrast_agent(None, description) or "")


@pytest.mark.parametrize("description", NOT_KNOWN)
def test_what_has_no_known_sense_decides_nothing(description):
    assert find_contrast_agent(None, description) is None


@pytest.mark.parametrize(
    "agent",
    ["", "NO IV CONTRAST", "NONE", "None", "ORAL", "oral", "without", "SIN CONTRASTE", "ohne", "NON CONTRAST", "N/A",
     "sem contraste", "NO CONTRAST GIVEN", "Aucun", "nessuno", "geen", "なし", "无", "NOT GIVEN"],
)  # fmt: skip
def test_an_agent_that_is_none(agent):
    assert find_contrast_agent(agent, "Head without contrast") == ""
    assert not find_contrast_agent(agent, "Head")


@pytest.mark.parametrize("agent", ["OMNIPAQUE 350", "Iohexol", "IV", "APPLIED", "100 ml Imeron", "Non-ionic"])
def test_an_agent_that_is_one(agent):
    assert find_contrast_agent(agent, "Head") == agent


def test_an_agent_that_is_not_known():
    assert find_contrast_agent("UNKNOWN", "Head") is None


@pytest.mark.parametrize(
    ("description", "bone"),
    [
        ("Schedel bot", True), ("Head 5.0 Bone", True), ("SCHAEDEL KNOCHEN", True), ("cráneo hueso", True),
        ("hlava kosti", True), ("череп кость", True), ("骨", True), ("CTA BONE REMOVAL", False), ("Head soft", False),
        ("Hersenen", False), ("cabeça", False),
    ],
)  # fmt: skip
def test_bone_by_its_name(description, bone):
    assert is_bone_series(description) == bone


def test_a_word_of_contrast_is_noticed_whatever_its_sense():
    assert mentions_contrast("Schedel contrast")
    assert not mentions_contrast("Head 5.0")
