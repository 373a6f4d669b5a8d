"""Reasons as sentences for people, in English, Ukrainian and Russian. Pure: facts and codes in, text out."""

from collections.abc import Mapping
from typing import Any

from crm_core.languages import spoken
from routing.explain_words import LANGUAGE_NAMES, LANGUAGE_TITLES, REASONS, TEXTS
from routing.model import Item, Reason

_PERSONAL = ("manager", "sticky", "directed")


def decision_text(why: Mapping[str, Any], language: str) -> str:
    """A stored decision in a few sentences, such as «Olena: speaks Ukrainian (4), least loaded (3 of 10),
    idle 6 min. Next best was Ihor (5 of 10).»
    """
    say = _Speaker(language)
    winner = why.get("winner")
    if why.get("by"):
        return _by_people(why, winner, say)
    if winner:
        parts = [_winner(why, winner, say), say(f"asked_{_scope(why)}")]
        if several := why.get("broadcast"):
            parts.append(say("broadcast", n=len(several)))
        runner = why.get("runner_up")
        if runner:
            parts.append(
                say("next_best", name=runner["name"], detail=_detail(why.get("differs"), runner, say))
            )
        elif "heads" in why:
            parts.append(say("pulled", n=why["heads"]))
    elif why.get("park"):
        parts = [say(f"parked_{why['park']['reason']}")]
    else:
        parts = [say(f"waits_{_scope(why)}")]
        if not why.get("considered"):
            parts.append(say("nobody"))
        told = (why.get("manager") or {}).get("agent_id")
        parts += [
            f"{name}: {reason_text(code, say.language)}."
            for agent_id, name, code in why.get("rejected", ())[:3]
            # A ring of one person asks no team: that others are not asked says nothing.
            if agent_id != told and not (code == Reason.NOT_IN_TEAM and _scope(why) in _PERSONAL)
        ]
    parts.insert(0, say(f"since_{why.get('trigger')}"))
    parts += _manager(why, winner, say)
    if near := why.get("steady"):
        parts.append(say("steady", skill=skill_name(near, say.language)))
    for skill in why.get("dropped", ()):
        key = "dropped_language" if skill.startswith("lang:") else "dropped"
        parts.append(say(key, skill=skill_name(skill, say.language)))
    return " ".join(p for p in parts if p)


def reason_text(code: str, language: str) -> str:
    """Why an agent may not have it."""
    texts = REASONS[spoken(language)]
    return texts.get(code, texts[Reason.OFFLINE])


def lack_text(code: str, skill: str, have: int | None, wanted: int, language: str) -> str:
    """The reason with the skill that it is about, such as «… below the level asked for: visa (2 < 3)»."""
    known = spoken(language)
    space, _, name = skill.partition(":")
    named = LANGUAGE_TITLES[known].get(name, name) if space == "lang" else name or skill
    level = f"{wanted}" if have is None else f"{have} < {wanted}"
    return f"{reason_text(code, known)}: {named} ({level})"


def waiting_text(scope: str, widens_in_ms: int | None, language: str, *, steady: str | None = None) -> str:
    """What a waiting item waits for, and when more people may take it. `steady`: as in `steps.Step`."""
    say = _Speaker(language)
    text = say(f"waits_{scope}")
    if steady is not None:
        text += " " + say("steady", skill=skill_name(steady, say.language))
    if widens_in_ms is not None and widens_in_ms > 0:
        text += " " + say("widens", when=say.duration(widens_in_ms))
    return text


def parked_text(reason: str | None, wakes_in_ms: int | None, language: str) -> str:
    """Why it is not in the queue yet, and when it will be."""
    say = _Speaker(language)
    known = {"after_hours": "parked_after_hours", "callback": "parked_callback", "not_due": "parked_callback"}
    text = say(known.get(reason or "", "parked_other"))
    if wakes_in_ms is not None and wakes_in_ms > 0:
        text += " " + say("parked_until", when=say.duration(wakes_in_ms))
    return text


def ring_text(scope: str, language: str) -> str:
    """Who is asked in a ring."""
    return _Speaker(language)(f"ring_{scope}")


def ahead_text(count: int, capped: bool, language: str) -> str:
    say = _Speaker(language)
    if count == 0:
        return say("ahead_none")
    return say("ahead_capped" if capped else "ahead", n=count)


def broadcast_text(refused: int, broadcasts: int, language: str) -> str:
    """How often it was refused, and offered to several; "" for neither."""
    say = _Speaker(language)
    parts = [say("rounds", n=refused)] if refused else []
    return " ".join([*parts, *([say("broadcasts", n=broadcasts)] if broadcasts else [])])


def key_texts(item: Item, now: int, language: str) -> list[dict[str, Any]]:
    """What the order key is made of: [{"code", "ms", "text"}], the target first, then each boost and what it did."""
    say = _Speaker(language)
    parts = item.order_parts
    target = int(parts.get("target_at", item.order_key))
    metric = "sla" if parts.get("metric") == "sla" else "max_wait"
    name = f"key_{metric}" if target >= now else f"key_{metric}_past"
    found = [{"code": metric, "ms": target - now, "text": say(name, when=say.when(target - now))}]
    boost, vip = int(parts.get("boost_ms", 0)), int(parts.get("vip_boost_ms", 0))
    if boost:
        text = say(
            "boost_priority" if boost > 0 else "boost_later",
            priority=say(f"priority_{item.priority}"), time=say.duration(abs(boost)),
        )  # fmt: skip
        found.append({"code": "priority", "ms": boost, "text": text})
    if vip:
        found.append({"code": "vip", "ms": vip, "text": say("boost_vip", time=say.duration(vip))})
    return found


def offer_text(name: str, state: str, reason: str | None, left_ms: int, language: str) -> str:
    """What became of an offer."""
    say = _Speaker(language)
    if state == "open":
        return say("offer_open" if left_ms > 0 else "offer_over", name=name, time=say.duration(left_ms))
    text = say(f"offer_{state}", name=name)
    because = say(f"because_{reason}") if reason else ""
    if because:
        return f"{text[:-1]} ({because})."
    return f"{text} «{reason}»" if reason and state == "declined" else text


def merged_text(number: int, language: str) -> str:
    """Into which inquiry it went up."""
    return _Speaker(language)("merged_into", number=number)


def state_text(state: str, language: str) -> str:
    return _Speaker(language)(f"state_{state}")


def skill_name(skill: str, language: str) -> str:
    """A skill as people say it: lang:uk is «Ukrainian»; others without their namespace."""
    space, _, name = skill.partition(":")
    if space == "lang":
        return LANGUAGE_NAMES[spoken(language)].get(name, name)
    return name or skill


class _Speaker:
    def __init__(self, language: str) -> None:
        self.language = spoken(language)

    def __call__(self, key: str, **facts: Any) -> str:
        texts = TEXTS[self.language]
        return texts.get(key, "").format(**facts)

    def when(self, ms: int) -> str:
        """An instant as people say it: in 5 min, 5 min ago."""
        return self("in" if ms >= 0 else "ago", time=self.duration(abs(ms)))

    def duration(self, ms: int) -> str:
        seconds = max(ms // 1000, 0)
        if seconds < 90:
            return self("seconds", n=seconds)
        if seconds < 5400 and seconds != 3600:
            return self("minutes", n=seconds // 60)
        if seconds < 36_000 and (minutes := seconds % 3600 // 60):
            return self("hours_minutes", h=seconds // 3600, n=minutes)
        if seconds < 172_800:
            return self("hours", n=seconds // 3600)
        return self("days", n=seconds // 86_400)


def _scope(why: Mapping[str, Any]) -> str:
    return str(why.get("step", {}).get("scope", "required"))


def _winner(why: Mapping[str, Any], winner: Mapping[str, Any], say: _Speaker) -> str:
    facts: list[str] = []
    if winner.get("manager"):
        facts.append(say("is_manager"))
    elif winner.get("sticky"):
        facts.append(say("is_sticky"))
    for skill, level in winner.get("skills", {}).items():
        key = "speaks" if skill.startswith("lang:") else "knows"
        facts.append(say(key, skill=skill_name(skill, say.language), level=level))
    differs = why.get("differs")
    load = say("load", used=winner.get("used", 0), max=winner.get("max", 0))
    if differs == "leads":
        facts.append(say("fewest_leads"))
    facts.append(say("least_loaded", load=load) if differs == "load" else load)
    idle = say.duration(winner.get("idle_ms", 0))
    facts.append(say("longest_idle", idle=idle) if differs == "idle_since" else say("idle", idle=idle))
    if differs == "scarcity":
        facts.append(say("least_special"))
    return f"{winner['name']}: {', '.join(f for f in facts if f)}."


def _detail(differs: str | None, runner: Mapping[str, Any], say: _Speaker) -> str:
    if differs == "idle_since":
        return say("idle", idle=say.duration(runner.get("idle_ms", 0)))
    if differs == "missing_preferred":
        return say("missing_preferred")
    if differs == "scarcity":
        return say("more_special")
    if differs == "leads":
        return say("more_leads")
    return say("load", used=runner.get("used", 0), max=runner.get("max", 0))


def _manager(why: Mapping[str, Any], winner: Mapping[str, Any] | None, say: _Speaker) -> list[str]:
    manager = why.get("manager")
    if not manager or not manager.get("name") or (winner and winner.get("manager")):
        return []
    reason = manager.get("reason")
    if reason is None:
        return []
    text = say("manager_was", name=manager["name"], reason=reason_text(reason, say.language))
    if manager.get("waited_ms", 0) >= 1000 and winner:
        text += " " + say("waited_for_him", time=say.duration(manager["waited_ms"]))
    return [text]


def _by_people(why: Mapping[str, Any], winner: Mapping[str, Any] | None, say: _Speaker) -> str:
    key = f"by_{why['trigger']}"
    if key == "by_transfer" and not winner:
        key = "by_transfer_team" if why.get("team") else ""
        winner = why.get("team")
    text = say(key, name=(winner or {}).get("name") or "") or say(
        "by_hand_given" if winner else "by_hand_returned", name=(winner or {}).get("name") or ""
    )
    if note := why.get("note"):
        text += f" «{note}»"
    return text
