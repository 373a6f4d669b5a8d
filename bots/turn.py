"""One turn of a dialog while it is worked out: the state as it becomes, what is to be said, what is to be done.

Owns wording: language, places in braces, buttons and their values. Decides nothing about where the dialog goes.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

from bots import when
from bots.flow import MAX_TEXT, Flow, Menu, Set
from bots.flow_checks import PLACE, mark_of
from bots.language import plain
from bots.phrases import LANGUAGE_NAMES, PHRASES
from bots.slots import is_open
from bots.turns import Action, Buttons, Change, End, Facts, HandOff, Say, State, TellWait
from crm_core.envelope import Button
from routing.business_time import Calendar

#: nodes passed in one turn; a checked flow never comes near it
MAX_HOPS = 100
PERSON, CALLBACK, SKIP, ASAP = "x:person", "x:callback", "x:skip", "x:asap"
LANGUAGE_PREFIX, SLOT_PREFIX = "x:lang:", "x:at:"
_EMPTY_PLACE = re.compile(r"[,\s]*\{([a-z_0-9]+)\}")
_LONGEST_VALUE = 200


class FlowError(Exception):
    """The flow led nowhere: a defect of ours, since flows are checked. The service hands off."""


def choice_value(node: str, value: str) -> str:
    """What a menu's button carries."""
    return f"f:{mark_of(node)}:{value}"


def parse_press(flow: Flow, value: str) -> tuple[str, str] | None:
    """(node, choice) of a menu's button; None for anything else, be it old or forged."""
    head, _, rest = value.partition(":")
    mark, _, choice = rest.partition(":")
    node = flow.by_mark(mark) if head == "f" else None
    return (node, choice) if node is not None else None


class NeedSlots(Exception):
    """The turn came to a time, and what the team can still promise is not known yet: gather it and turn again."""

    def __init__(self, team: str | None) -> None:
        super().__init__(team)
        self.team = team


class Turn:
    def __init__(self, flow: Flow, state: State, facts: Facts) -> None:
        self.flow = flow
        self.state = state
        self.facts = facts
        self.actions: list[Action] = []
        self.phone = facts.phone
        self._texts: list[str] = []
        if state.phone is not None and state.phone != facts.phone:
            self.learn_phone(state.phone)

    # --- state ------------------------------------------------------------------------------------------------
    def set(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)

    def answer(self, name: str, value: Any) -> None:
        self.set(answers={**self.state.answers, name: value}, substance=True, misses=0)

    def miss(self) -> int:
        """Count an answer that was not understood; returns how many in a row."""
        self.set(misses=self.state.misses + 1)
        return self.state.misses

    def done(self) -> tuple[State, tuple[Action, ...]]:
        self.flush()
        return self.state, tuple(self.actions)

    # --- words ------------------------------------------------------------------------------------------------
    def phrase(self, key: str, **places: str) -> str:
        own = self.flow.texts.get(key)
        return self.fill(own if own is not None else PHRASES[key], **places)

    def fill(self, text: Mapping[str, str], **places: str) -> str:
        """The text in the dialog's language with its places filled; a place without a value goes with its comma."""
        written = text.get(self.state.language) or next(iter(text.values()))
        values = {
            "name": self.facts.name or "",
            "phone": self.phone or "",
            "number": str(self.facts.number or ""),
            **{k: str(v) for k, v in self.state.answers.items()},
            **places,
        }
        if "{next_opening}" in written and "next_opening" not in places:
            values["next_opening"] = self.next_opening() or ""
        values = {k: v[:_LONGEST_VALUE] for k, v in values.items()}
        written = _EMPTY_PLACE.sub(lambda m: m.group(0) if values.get(m.group(1)) else "", written)
        return PLACE.sub(lambda m: values.get(m.group(1), ""), written).strip()

    def say(self, text: str) -> None:
        if text.strip():
            self._texts.append(text)

    def flush(self, buttons: Buttons = ()) -> None:
        """Send what was said so far as one message, or several if it is long; buttons hang on the last."""
        parts: list[str] = []
        for text in self._texts:
            if parts and len(parts[-1]) + len(text) + 2 <= MAX_TEXT:
                parts[-1] += "\n\n" + text
            else:
                parts.append(text)
        self._texts = []
        for i, text in enumerate(parts):
            self.actions.append(Say(text=text, buttons=buttons if i == len(parts) - 1 else ()))

    # --- buttons ----------------------------------------------------------------------------------------------
    def menu_rows(self, name: str) -> Buttons:
        menu = self.flow.nodes[name]
        if not isinstance(menu, Menu):
            return ()
        buttons = [Button(label=self.fill(c.label), value=choice_value(name, c.value)) for c in menu.choices]
        return tuple(tuple(buttons[i : i + menu.columns]) for i in range(0, len(buttons), menu.columns))

    def button(self, phrase: str, value: str = "", request: str | None = None) -> Button:
        return Button(label=self.phrase(phrase), value=value, request=request)

    def person_row(self) -> Buttons:
        if not self.flow.rules.person_button or not self.state.holds:
            return ()
        return ((self.button("button_person", PERSON),),)

    def language_row(self) -> Buttons:
        others = [lang for lang in self.flow.languages if lang != self.state.language]
        if not self.flow.rules.language_buttons or not others:
            return ()
        return (tuple(Button(label=LANGUAGE_NAMES[lang], value=LANGUAGE_PREFIX + lang) for lang in others),)

    def says_button(self, text: str, phrase: str) -> bool:
        """Whether a text is what a button says, in any language: keyboards of some channels send their labels."""
        own = self.flow.texts.get(phrase, {})
        said = plain(text)
        return bool(said) and said in {plain(label) for label in (*PHRASES[phrase].values(), *own.values())}

    # --- hours ------------------------------------------------------------------------------------------------
    def calendar(self) -> Calendar | None:
        team = self.state.team or self.flow.team
        return self.facts.calendars[team] if team in self.facts.calendars else self.facts.calendars.get(None)

    def free(self) -> Collection[int] | None:
        """The half hours that may be promised; None: any of the team's hours. Raises NeedSlots."""
        team = self.state.team or self.flow.team
        if not self.facts.free_known:
            raise NeedSlots(team)
        return self.facts.free.get(team)

    def is_open(self) -> bool:
        return is_open(self.calendar(), self.facts.now)

    def next_opening(self) -> str | None:
        calendar = self.calendar()
        at = calendar.next_open(self.facts.now) if calendar is not None else None
        return None if at is None else self.show(at)

    def show(self, at: int) -> str:
        """An instant in the customer's zone; the zone is named where his number does not tell which one that is."""
        return when.show(
            at,
            now=self.facts.now,
            zone=self.facts.zone,
            language=self.state.language,
            name_zone=self.facts.zone_source == "default" and self.phone is not None,
        )

    def learn_phone(self, e164: str) -> None:
        """The number is known from now on, and with it, perhaps, whose clock counts."""
        from routing.callbacks.plan import zones_of

        self.phone = e164
        if self.facts.zone_source != "contact":
            zones = zones_of(e164, contact_zone=None, default_zone=self.facts.office_zone)
            self.facts = replace(self.facts, zone=zones.shown, zone_source=zones.source)

    # --- what is wanted ---------------------------------------------------------------------------------------
    def apply(self, wanted: Set, *, topic: str | None = None, late: bool = False) -> None:
        if wanted.team is not None:
            self.set(team=wanted.team)
        self.actions.append(
            Change(
                kind=wanted.kind,
                priority=wanted.priority,
                team=wanted.team,
                tags=tuple(wanted.tags),
                skills=dict(wanted.skill),
                fields=dict(wanted.fields),
                topic=topic,
                late=late,
            )
        )

    def hand_off(
        self,
        reason: str,
        text: str | None = None,
        *,
        fields: Mapping[str, Any] | None = None,
        request: str | None = None,
        refine: bool = False,
    ) -> None:
        """Give it to people and say so. Beside a person there is nothing to give: the small dialog ends silently."""
        if not self.state.holds:
            self._texts = []
            self.set(status="ended", phase="")
            return
        if text is not None:
            self.say(text)
        closed = not self.is_open()
        if closed:
            opening = self.next_opening()
            self.say(
                self.phrase("closed", next_opening=opening) if opening else self.phrase("closed_no_opening")
            )
        self.flush(self._farewell_rows(closed=closed, refine=refine))
        self.set(status="handed_off", phase="")
        self.actions.append(
            HandOff(
                reason=reason,
                fields={**self.state.answers, **(fields or {})},
                team=self.state.team or self.flow.team,
                request=request,
            )
        )

    def tell_wait(self, *, offer: bool = True) -> None:
        """Say how long the wait for a person will be; in closed hours the opening was named already. `offer`: with a
        callback instead, where the wait is long.
        """
        self.flush()
        if self.is_open():
            self.actions.append(TellWait(buttons=self.callback_row() if offer else ()))

    def _farewell_rows(self, *, closed: bool, refine: bool) -> Buttons:
        rows: list[tuple[Button, ...]] = []
        if refine and self.flow.topics is not None:
            self.say(self.phrase("refine"))
            rows.extend(self.menu_rows(self.flow.topics))
        if (closed or refine) and not (refine and self._topics_offer_a_call()):
            rows.extend(self.callback_row())
        return tuple(rows)

    def _topics_offer_a_call(self) -> bool:
        """The menu of topics has a choice of its own that books a call: a second button would say the same."""
        menu = self.flow.nodes[self.flow.topics] if self.flow.topics is not None else None
        return isinstance(menu, Menu) and any(c.next == self.flow.callback for c in menu.choices)

    def callback_row(self) -> Buttons:
        if self.flow.callback is None or self.state.booked:
            return ()
        return ((self.button("button_callback", CALLBACK),),)

    def end(self, outcome: str) -> None:
        self.flush()
        was_holding = self.state.holds
        self.set(status="ended", phase="")
        if was_holding:
            self.actions.append(End(outcome=outcome))


def labels_of(choice_labels: Iterable[str]) -> set[str]:
    """Labels as they are compared with what customers type."""
    return {plain(label) for label in choice_labels}
