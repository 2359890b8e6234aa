"""An options screen that remembers: what was chosen last time is there again, and options are kept by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ai_router.memory import Memory, MemoryFileError
from ai_router.models import ModelSpec
from ai_router.presets import Preset, keep_last, keep_preset, last_time, preset_of, presets, templates
from ai_router.tui.dialogs import PromptDialog
from ai_router.tui.setup.flow import FlowScreen
from ai_router.tui.setup.presets import LAST, OWN, PresetsDialog
from ai_router.tui.widgets.form import OptionForm
from batch.options import OptionError, RunOptions, SamplingOptions


class RememberingOptions(FlowScreen):
    """Two forms, of sampling and of run options, and where they come from."""

    spec: ModelSpec
    sampling_form: OptionForm[SamplingOptions]
    run_form: OptionForm[RunOptions]

    @property
    def memory(self) -> Memory:
        """Where they are kept."""
        return Memory(self.services.workspace.checkpoints)

    def fill_from_memory(self, given: Preset | None = None, whose: str = "") -> str:
        """Show the options of last time, before the forms are made; returns a word where there were some.

        What is `given`, of a chat or a job before, is taken instead; last time's of the run where it has none of them.
        What was typed on this way, before one went back, comes before both.
        """
        last, typed = last_time(self.memory, self.spec.id), self.first_step.typed.get(self.spec.id)
        if last is None and given is None and typed is None:
            return ""
        self._own, last = self._preset_now(), last or Preset()
        shown = last if given is None else Preset(given.sampling, given.run or last.run)
        if given is not None and given != Preset():
            self._given = {f"As in the {whose}": shown}
        shown = typed or shown
        for form, values in ((self.sampling_form, shown.sampling), (self.run_form, shown.run)):
            for name, value in values.items():
                if name in form.fields:
                    form.fields[name].value = value
        if typed is not None and (given is not None or typed != last):
            return "options as you left them"
        if given is not None:
            return f"options of the {whose}" if given != Preset() else ""
        return "options as last time" if last != Preset() else ""

    _given: Mapping[str, Preset] = MappingProxyType({})

    _own: Preset | None = None

    def _preset_now(self) -> Preset | None:
        try:
            return preset_of(self.sampling_form.build(), self.run_form.build())
        except OptionError:
            return None

    def remember_options(self) -> None:
        """Keep what is in the forms as last time's, also where nothing is started with it."""
        preset = self._preset_now()
        if preset is None:
            return
        step = self.first_step
        step.typed = {**step.typed, self.spec.id: preset}
        try:
            if preset != (last_time(self.memory, self.spec.id) or self._own or Preset(dict(self.spec.sampling))):
                keep_last(self.memory, self.spec.id, preset)
        except MemoryFileError as error:
            self.services.show_error(error)

    def action_presets(self) -> None:
        """Take options that were kept."""
        own = {OWN: self._own or Preset(dict(self.spec.sampling))}
        if last := last_time(self.memory, self.spec.id):
            own = {LAST: last, **own}
        own = {**self._given, **own}
        root = self.services.workspace.root
        self.in_thread(lambda: {**own, **templates(root)}, self._choose_preset, busy="templates", group="templates",
                       keys_wait=True)  # fmt: skip

    def _choose_preset(self, own: dict[str, Preset]) -> None:
        dialog = PresetsDialog({**own, **presets(self.memory)}, len(own))

        def chosen(found: tuple[str, Preset] | None) -> None:
            try:
                for name in dialog.forgotten:
                    keep_preset(self.memory, name, None)
            except MemoryFileError as error:
                self.services.show_error(error)
            if found is not None:
                self.call_later(self._show_preset, found[1])

        self.app.push_screen(dialog, chosen)

    async def _show_preset(self, preset: Preset) -> None:
        sampling, run = preset.built()
        for form, options in ((self.sampling_form, sampling), (self.run_form, run)):
            for name, field in form.fields.items():
                field.value = getattr(options, name)
                await field.recompose()

    def action_keep(self) -> None:
        """Keep these options by a name."""
        preset = self._preset_now()
        if preset is None:
            self.services.show_error("Some value needs a look first")
            return

        def named(name: str | None) -> None:
            if name is None:
                return
            try:
                kept = keep_preset(self.memory, name, preset)
            except (ValueError, MemoryFileError) as error:
                self.services.show_error(error)
                return
            self.notify(f"Kept as {kept}; f3 takes it again", markup=False)

        self.app.push_screen(PromptDialog("Keep these options", "By the name:"), named)
