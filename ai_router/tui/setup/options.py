"""How to run: defaults that need no touching, each option with its help; then the job is written and runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, Input, Static

from ai_router import detaching, jobs
from ai_router.models import ModelSpec
from ai_router.presets import Preset
from ai_router.tui.actions import bind
from ai_router.tui.base import SLIM_STEPS
from ai_router.tui.setup.flow import FlowScreen
from ai_router.tui.setup.remembering import RememberingOptions
from ai_router.tui.setup.routed import Routed
from ai_router.tui.setup.source_view import PreviewPanel
from ai_router.tui.widgets.choice import ChoiceLine
from ai_router.tui.widgets.form import NO, YES, OptionField, OptionForm
from ai_router.tui.widgets.text import lines_of, one_line, plural
from batch.job import BatchJob
from batch.options import OptionError, RunOptions, SamplingOptions, build_options
from batch.sources import Entry, Source, Validation

SHOWN_EVERY = 0.15  # seconds
AHEAD = {"ready": "✓ model loaded", "stopped": ""}  # else as its engine says
SETTLED_SECONDS = 0.7  # after the last change, when the model begins to load by what is chosen
NOW, IN_TURN = "now", "in turn"
ALL, FIRST, ANY = "all", "first", "any"
TRY_HELP = "so many, then their answers and what all would cost"
TRIED = 10
TURN_HELP = "beside what runs here, or after it: two models on this machine halve each other's speed"
AFTER = "begins after what runs here"
BACKGROUND_HELP = "go on when this terminal closes"


class OptionsScreen(RememberingOptions):
    """Sampling and run options of a new job, and `Start`, which has the focus."""

    CSS_PATH = "options.tcss"
    AUTO_FOCUS = "#start"
    HORIZONTAL_BREAKPOINTS = SLIM_STEPS
    BINDINGS: ClassVar[list[BindingType]] = bind("options.start", "options.presets", "options.keep", "options.try_some")

    def __init__(
        self,
        source: Source,
        spec: ModelSpec,
        total: int,
        report: Validation | None = None,
        routed: Routed | None = None,
        sampling: Mapping[str, Any] | None = None,
        first: Sequence[Entry] = (),
    ) -> None:
        super().__init__()
        self.routed = routed  # where each prompt gets a model of its own
        self.report = report  # of the prompts, where they were read with this model
        self._asked_with = sampling  # in a chat, before
        self._first = first  # prompts, where they were read
        self.set_reactive(FlowScreen.crumbs, ("Batch", source.name, routed.name if routed else spec.name, "Options"))
        self.set_reactive(FlowScreen.context_text, plural(total, "prompt"))
        self.source = source
        self.spec = spec
        self.total = total
        self.busy = ""
        self._from = ""
        self._ahead = ""  # how far the model is, where it is loaded meanwhile
        self._job: BatchJob | None = None  # written already, where starting it failed
        self._written = 0
        self._changes = 0
        try:
            own = build_options(SamplingOptions, spec.sampling)
            self._bad_defaults = ""
        except OptionError as error:
            own, self._bad_defaults = SamplingOptions(), f"models.yaml, {spec.id}: {error}"
        self.sampling_form: OptionForm[SamplingOptions] = OptionForm(SamplingOptions, own, id="sampling")
        self.run_form: OptionForm[RunOptions] = OptionForm(RunOptions, id="run")

    def compose_body(self) -> ComposeResult:
        """Two groups of options above the buttons."""
        self._from = self.fill_from_memory(*self._before())
        with VerticalScroll(id="options", can_focus=False):
            with Vertical(classes="panel group") as answers:
                answers.border_title = "Answers"
                yield self.sampling_form
            with Vertical(classes="panel group") as run:
                run.border_title = "Run"
                yield self.run_form
                with Horizontal(id="background-line"):
                    yield Static("background", classes="field--label")
                    yield ChoiceLine((NO, YES), id="background")
                    yield Static(BACKGROUND_HELP, classes="muted")
                with Horizontal(id="try-line"):
                    yield Static("answer", classes="field--label")
                    yield ChoiceLine((ALL, FIRST, ANY), id="try")
                    yield Input(
                        str(min(TRIED, self.total)), id="try-count", compact=True, type="integer", disabled=True
                    )
                    yield Static(TRY_HELP, classes="muted")
                if self.services.live_runs():
                    with Horizontal(id="turn-line"):
                        yield Static("begin", classes="field--label")
                        yield ChoiceLine((NOW, IN_TURN), self._usual_turn(), id="turn")
                        yield Static(TURN_HELP, classes="muted")
            if self._first:
                yield PreviewPanel(id="preview")
        yield Static("", id="help", markup=False)
        with Horizontal(id="buttons"):
            yield Static("", id="busy", markup=False)
            yield Button("Start", id="start", variant="primary")

    def _usual_turn(self) -> str:
        """In turn where this model and one of those that answer here both work on this machine; else at once."""
        specs = [self.services.registry.listed(run.job.model_id) for run in self.services.live_runs()]
        busy = any(spec is not None and not spec.is_remote for spec in specs)
        return IN_TURN if busy and not self.spec.is_remote else NOW

    def _in_turn(self) -> bool:
        """Whether it is to wait for what runs here."""
        return any(choice.value == IN_TURN for choice in self.query("#turn").results(ChoiceLine))

    def _before(self) -> tuple[Preset | None, str]:
        """What the prompts were asked with before, and in what."""
        from ai_router.again import JobItems

        if self._asked_with is not None:
            return Preset(self._asked_with), "chat"
        return (self.source.options_for(self.spec.id), "job") if isinstance(self.source, JobItems) else (None, "")

    def on_mount(self) -> None:
        """Say what is wrong with the model's own defaults."""
        self.set_interval(SHOWN_EVERY, self._frame)
        for preview in self.query(PreviewPanel):
            preview.show(self._first)
        if self._bad_defaults:
            self.services.show_error(self._bad_defaults)
        self._say_ready()
        self._load_ahead()

    def on_resize(self) -> None:
        """There may be room for more words, or less."""
        self.call_after_refresh(self._say_how)

    def on_unmount(self) -> None:
        """A model that was loaded ahead for nothing is given up; a run that began has taken it."""
        self.services.preloading.want(None)

    def _load_ahead(self) -> None:
        """Have the model loaded, as a run with these options would have it, while one is still reading them."""
        if self.routed is not None or self.busy or self.services.live_runs():
            return
        try:
            sampling, run = self.sampling_form.build(), self.run_form.build()
        except OptionError:
            return
        from ai_router.preloading import Wanted

        self.services.preloading.want(Wanted(self.spec.configured(run), sampling, run.workers, run.timeout))

    def _say_ready(self) -> None:
        cost = self._cost()
        model = self.routed.name if self.routed else self.spec.name
        after = AFTER if self._in_turn() else ""
        parts = [plural(self.total, "prompt"), one_line(model), cost, self._from, self._ahead, after]
        if not self.has_class("-slim"):
            parts.append("enter starts, tab changes something")
        line = self.query_one("#busy", Static)
        line.update("\n".join(lines_of(parts, line.content_size.width)))

    def _cost(self) -> str:
        """What it will cost on a server, as far as that is known before it runs."""
        if self.report is None:
            return ""
        from ai_router.estimate import before

        try:
            planned = before(self.spec, self.report, self.sampling_form.build(), self.run_form.build())
        except OptionError:
            return ""
        return planned.cost_text if planned is not None else ""

    def _say_how(self) -> bool:
        """Say what stands there to be started, or what is wrong with it; whether it can be."""
        errors = {**self.sampling_form.errors, **self.run_form.errors}
        if errors:
            self.query_one("#busy", Static).update(f"✗ {plural(len(errors), 'value needs', 'values need')} a look")
        elif not self.busy:
            self._say_ready()
        return not errors

    @on(OptionField.Changed)
    def _changed(self) -> None:
        right = self._say_how()
        self.query_one("#start", Button).disabled = not right
        if right:
            self._changes += 1
            seen = self._changes
            self.set_timer(SETTLED_SECONDS, lambda: self._load_ahead() if seen == self._changes else None)

    @on(ChoiceLine.Changed, "#try")
    def _try_chosen(self, event: ChoiceLine.Changed) -> None:
        self._take_try(event.choice.value)

    def _take_try(self, what: str) -> None:
        self.query_one("#try-count", Input).disabled = what == ALL
        if what != ALL:
            self._begin_now()

    def _begin_now(self) -> None:
        """As what is tried does, and what runs in the background, whatever runs here."""
        for choice in self.query("#turn").results(ChoiceLine):
            choice.value = NOW

    @on(ChoiceLine.Changed, "#background")
    def _background_chosen(self, event: ChoiceLine.Changed) -> None:
        if event.choice.value == YES:
            self._begin_now()

    @on(ChoiceLine.Changed, "#turn")
    def _turn_chosen(self) -> None:
        self._say_how()

    def action_try_some(self) -> None:
        """Another part to answer at first: the first, any, all; the cursor goes to how many."""
        choice, count = self.query_one("#try", ChoiceLine), self.query_one("#try-count", Input)
        choice.value = (FIRST, ANY, ALL)[(ALL, FIRST, ANY).index(choice.value)]
        self._take_try(choice.value)
        (self.query_one("#start", Button) if count.disabled else count).focus()

    def _tries(self) -> dict[str, Any]:
        """What of the job is answered at first. Raises OptionError."""
        what, count = self.query_one("#try", ChoiceLine).value, self.query_one("#try-count", Input).value.strip()
        away = self.query_one("#background", ChoiceLine).value == YES
        if away and self._in_turn():
            raise OptionError("begin: a job in the background runs by itself and waits for none; choose one of the two")
        if what == ALL:
            return {}
        if not (count.isascii() and count.isdecimal() and int(count)):
            raise OptionError(f"answer: {count or 'nothing'} is no number of prompts to try")
        if away or self._in_turn():
            raise OptionError("answer: what is tried is answered here and now, neither in the background nor in turn")
        return {"first": int(count), "at_random": what == ANY}

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """All there is to say of the option under the cursor, below the form."""
        field = next((a for a in event.widget.ancestors if isinstance(a, OptionField)), None)
        text = f"{field.option.replace('_', ' ')}: {field.full_help()}" if field else ""
        self.query_one("#help", Static).update(text)

    @on(Input.Submitted)
    def _entered(self) -> None:
        if not (self.sampling_form.focus_error() or self.run_form.focus_error()):
            self.query_one("#start", Button).focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Not twice."""
        return not self.busy if action == "start" else True

    @on(Button.Pressed, "#start")
    def action_start(self) -> None:
        """Write the job in a thread, then run it; an error leaves everything as it was, to try again."""
        if self.busy:
            return
        try:
            sampling, run, tries = self.sampling_form.build(), self.run_form.build(), self._tries()
        except OptionError as error:
            self.services.show_error(error)
            _ = self.sampling_form.focus_error() or self.run_form.focus_error()
            return
        self.remember_options()
        plan = self._plan(sampling, run)
        background = self.query_one("#background", ChoiceLine).value == YES
        in_turn = self._in_turn()
        self._set_busy("writing prompts")
        app = self.services

        def work() -> BatchJob:
            job = self._job
            plan.weights = job.config.get("weights") if job is not None else None
            if job is None or job.config != plan.as_config():
                requests = self.source.requests()
                if self.routed is not None:
                    requests = self.routed.directed(self.source, plan)
                job = self._job = jobs.create_job(
                    app.workspace, plan, requests, self._progress, self.spec, app.registry
                )
            self.busy = "starting"
            if in_turn or background:
                app.preloading.want(None)
            if in_turn:
                app.turns.add(job)
            elif background:
                detaching.detach(app.workspace, job)
            else:
                app.start_run(job, plan, **tries)
            return job

        self.in_thread(work, self._queued if in_turn else self._started, failed=self._failed, group="start",
                       keys_wait=True)  # fmt: skip

    def _plan(self, sampling: SamplingOptions, run: RunOptions) -> jobs.JobPlan:
        from ai_router.again import JobItems
        from ai_router.datasets import plan_for

        if isinstance(self.source, JobItems):
            return self.source.plan(self.spec, sampling, run, self.services.workspace)
        return plan_for(self.source, self.spec, sampling, run, self.services.workspace)

    def _progress(self, written: int) -> None:
        self._written = written

    def _started(self, job: BatchJob) -> None:
        assert job.checkpoint_file is not None
        self._set_busy("")
        self.source.close()
        self.enter_run(job.checkpoint_file)

    def _queued(self, job: BatchJob) -> None:
        self._set_busy("")
        self.source.close()
        self.leave()
        self.services.notify(f"Job {job.job_id} begins when what runs here is through", markup=False)

    def _failed(self, error: Exception) -> None:
        self._set_busy("")
        self.services.show_error(error, self.action_start)

    def _set_busy(self, what: str) -> None:
        self.busy = what
        self.query_one("#options").disabled = bool(what)
        self.query_one("#start", Button).disabled = bool(what)
        if not what:
            self._say_ready()
        self._frame()
        self.refresh_bindings()

    def _frame(self) -> None:
        if self.busy:
            counted = f" {self._written:,} of {self.total:,}" if self._written else ""
            self.query_one("#busy", Static).update(f"{self.busy}…{counted}")
            return
        ahead = AHEAD.get(status := self.services.preloading.status, status)
        if ahead != self._ahead:
            self._ahead = ahead
            self._say_how()

    def action_back(self) -> None:
        """Not while the job is being written."""
        if not self.busy:
            self.remember_options()
            super().action_back()
