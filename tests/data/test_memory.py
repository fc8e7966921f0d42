"""How much memory there is."""

from hsmamba.data import memory


def test_the_memory_is_that_of_the_machine_or_of_its_container(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CONTROL_GROUP", tmp_path)
    machine = memory.available_bytes()
    assert machine is None or 2**20 < machine < 2**60
    for name, value in (("max", 3000), ("current", 1000)):
        (tmp_path / f"memory.{name}").write_text(f"{value}\n")
    assert memory.available_bytes() == 2000
    (tmp_path / "memory.max").write_text("max\n")
    assert (memory.available_bytes() is None) == (machine is None)
