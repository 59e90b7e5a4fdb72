"""Weight files that are damaged, hostile or something else: `WeightsError` in bounded memory, and nothing is run."""

import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from esdcodec.codec import load
from esdcodec.weights import ModelNotFoundError, WeightsError, read_tensors


class TestDamage:
    @pytest.mark.parametrize("keep", [0, 4, 8, 1000, 0.5, 0.999])
    @pytest.mark.parametrize("form", ["safetensors", "zip", "pickle"])
    def test_truncated_file(self, tiny_codec, tmp_path, form, keep):
        file = tmp_path / "model.bin"
        if form == "safetensors":
            save_file(tiny_codec.state_dict(), file)
        else:
            torch.save(tiny_codec.state_dict(), file, _use_new_zipfile_serialization=form == "zip")
        data = file.read_bytes()
        file.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
        with pytest.raises(WeightsError, match=r"model\.bin"):
            load(file)

    def test_not_weights_at_all(self, tmp_path):
        for name, content in {"a": b"hello world", "b": pickle.dumps([1, 2]), "c": b"RIFF" + bytes(100)}.items():
            (tmp_path / name).write_bytes(content)
            with pytest.raises(WeightsError, match=str(tmp_path / name)):
                load(tmp_path / name)

    def test_weights_of_another_network(self, tmp_path):
        save_file({"layer.weight": torch.zeros(3)}, tmp_path / "other.safetensors")
        with pytest.raises(WeightsError, match="neither published weights nor an ESDCodec file"):
            load(tmp_path / "other.safetensors")

    @pytest.mark.parametrize("zipped", [True, False])
    def test_hostile_pickle_is_refused_and_nothing_of_it_is_run(self, tmp_path, zipped):
        class Hostile:
            def __reduce__(self):
                return (open, (str(tmp_path / "run"), "w"))

        torch.save({"dac.x": Hostile()}, tmp_path / "evil.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsError, match=r"evil\.pt: .*global: GLOBAL .*open .*nothing of it was run") as refusal:
            load(tmp_path / "evil.pt")
        assert "weights_only" not in str(refusal.value)  # torch's advice on how to run it all the same
        assert not (tmp_path / "run").exists()

    def test_dict_of_something_else_than_tensors(self, tmp_path):
        torch.save({"dac.x": 3}, tmp_path / "numbers.pt")
        with pytest.raises(WeightsError, match="parameter name -> tensor"):
            read_tensors(tmp_path / "numbers.pt")

    @pytest.mark.parametrize(
        ("tensor", "message"),
        [
            (torch.full((3,), torch.nan), "a contains NaN or infinite"),
            (torch.tensor([1.0, torch.inf]).half(), "a contains NaN or infinite"),
            (torch.full((3,), torch.nan).to(torch.float8_e4m3fn), "(a contains NaN or infinite|damaged)"),
            (torch.eye(3).to_sparse(), "a is a sparse"),
            (lambda: torch.eye(3).to_sparse_csr(), "a is a sparse"),
            (lambda: torch.sparse_coo_tensor(torch.zeros(2, 1).long(), torch.ones(1), (2**30, 2**30)), "a is a sparse"),
            (torch.empty(2**40, device="meta"), "a is a meta tensor"),
            (torch.zeros(1).expand(2**40), "share memory"),
            (torch.tensor([1e300]).double() * 1e300, "a contains NaN or infinite"),
            (torch.tensor([1e300], dtype=torch.float64), "a contains NaN or infinite values, as float32"),
            (lambda: torch.nested.nested_tensor([torch.ones(3), torch.ones(4)]), "(a is a .* nested|damaged)"),
            (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "(a is a .* quantized|damaged)"),
        ],
        ids=[
            "NaN",
            "infinite",
            "NaN of 8 bits",
            "sparse",
            "CSR",
            "huge and sparse",
            "meta",
            "expanded",
            "infinite as float64",
            "infinite as float32",
            "nested",
            "quantized",
        ],
    )
    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.filterwarnings("ignore")
    def test_tensors_that_are_no_weights(self, tmp_path, tensor, message, zipped):
        tensor = tensor() if callable(tensor) else tensor
        torch.save({"a": tensor, "b": torch.zeros(3)}, tmp_path / "odd.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(WeightsError, match=rf"odd\.pt: .*{message}"):
            read_tensors(tmp_path / "odd.pt")

    def test_names_that_share_one_memory(self, tmp_path):
        torch.save(dict.fromkeys(map(str, range(1000)), torch.zeros(1000)), tmp_path / "shared.pt")
        with pytest.raises(WeightsError, match="share memory: 4000000 bytes of values, of which 4000 are stored"):
            read_tensors(tmp_path / "shared.pt")

    def test_an_archive_that_inflates_a_thousandfold(self, tmp_path):
        torch.save({"a": torch.zeros(10**7)}, tmp_path / "flat.pt")
        with (
            zipfile.ZipFile(tmp_path / "flat.pt") as flat,
            zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
        ):
            for entry in flat.namelist():
                bomb.writestr(entry, flat.read(entry))
        assert (tmp_path / "bomb.pt").stat().st_size < 10**5
        with pytest.raises(WeightsError, match=r"bomb\.pt: refused: it would unpack to 4000\d+ bytes"):
            read_tensors(tmp_path / "bomb.pt")

    def test_a_huge_configuration_is_not_parsed(self, tmp_path):
        huge = '{"model_type": "esdcodec", "encoder_rates": [' + "1," * 2**20 + "1]}"
        save_file({"a": torch.zeros(3)}, tmp_path / "embedded.safetensors", metadata={"config": huge})
        save_file({"a": torch.zeros(3)}, tmp_path / "model.safetensors")
        (tmp_path / "config.json").write_text(huge)
        for source in (tmp_path / "embedded.safetensors", tmp_path):
            with pytest.raises(WeightsError, match="no longer than 1 MiB"):
                load(source)

    def test_empty_folder(self, tmp_path):
        with pytest.raises(ModelNotFoundError, match=r"neither model\.safetensors nor"):
            load(tmp_path)

    @pytest.mark.parametrize("source", ["25hz_v9", "./nowhere", "/no/such/folder", "a/b/c", "no/such.safetensors"])
    def test_no_such_model(self, source):
        with pytest.raises(ModelNotFoundError, match=r"25hz_nano, 25hz_v1"):
            load(source)
