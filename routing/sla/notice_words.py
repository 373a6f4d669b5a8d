"""The words of notices in English, Ukrainian and Russian. Data and one function; every language has every key, which a
test checks.
"""

from collections.abc import Mapping
from typing import Any

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "first_reply": "first reply",
        "next_reply": "next reply",
        "periodic_update": "periodic update",
        "pausable_update": "update",
        "requester_wait": "customer's wait",
        "agent_work": "work on it",
        "total_resolution": "solution",
        "speed_of_answer": "answer to the call or chat",
        "share": "#{number} {subject}: {step} of the time is used up ({metric})",
        "broken": "#{number} {subject}: the promise is broken ({metric})",
        "over": "#{number} {subject}: {step} of the time, still not done ({metric})",
        "before": "#{number} {subject}: {span} left ({metric})",
        "after": "#{number} {subject}: overdue by {span} ({metric})",
        "late": "{text}; told late",
        "page": "You are on call: #{number} {subject} needs somebody now ({metric})",
        "storm": "{breaches} promises of {team} were broken within a minute",
        "no_team": "no team",
        "s": "s",
        "m": "min",
        "h": "h",
        "mail_subject": "Switchboard: {count} things need you",
        "more": "… and {n} more",
    },
    "uk": {
        "first_reply": "перша відповідь",
        "next_reply": "наступна відповідь",
        "periodic_update": "регулярне повідомлення",
        "pausable_update": "повідомлення про стан",
        "requester_wait": "очікування клієнта",
        "agent_work": "робота над зверненням",
        "total_resolution": "вирішення",
        "speed_of_answer": "відповідь на дзвінок чи чат",
        "share": "№{number} {subject}: використано {step} часу ({metric})",
        "broken": "№{number} {subject}: обіцянку порушено ({metric})",
        "over": "№{number} {subject}: минуло {step} часу, досі не зроблено ({metric})",
        "before": "№{number} {subject}: залишилося {span} ({metric})",
        "after": "№{number} {subject}: прострочено на {span} ({metric})",
        "late": "{text}; повідомлено із запізненням",
        "page": "Ви чергуєте: №{number} {subject} потребує уваги зараз ({metric})",
        "storm": "За хвилину порушено обіцянок: {breaches} ({team})",
        "no_team": "без команди",
        "s": "с",
        "m": "хв",
        "h": "год",
        "mail_subject": "Switchboard: потребують уваги — {count}",
        "more": "… та ще {n}",
    },
    "ru": {
        "first_reply": "первый ответ",
        "next_reply": "следующий ответ",
        "periodic_update": "регулярное сообщение",
        "pausable_update": "сообщение о состоянии",
        "requester_wait": "ожидание клиента",
        "agent_work": "работа над обращением",
        "total_resolution": "решение",
        "speed_of_answer": "ответ на звонок или чат",
        "share": "№{number} {subject}: использовано {step} времени ({metric})",
        "broken": "№{number} {subject}: обещание нарушено ({metric})",
        "over": "№{number} {subject}: прошло {step} времени, всё ещё не сделано ({metric})",
        "before": "№{number} {subject}: осталось {span} ({metric})",
        "after": "№{number} {subject}: просрочено на {span} ({metric})",
        "late": "{text}; сообщено с опозданием",
        "page": "Вы дежурите: №{number} {subject} требует внимания сейчас ({metric})",
        "storm": "За минуту нарушено обещаний: {breaches} ({team})",
        "no_team": "без команды",
        "s": "с",
        "m": "мин",
        "h": "ч",
        "mail_subject": "Switchboard: требуют внимания — {count}",
        "more": "… и ещё {n}",
    },
}
_SUBJECT = 80


def line_text(data: Mapping[str, Any], language: str) -> str:
    """One line of a notice, in the reader's language. Stored data of any age gives a sentence."""
    words = WORDS.get(language, WORDS["en"])
    subject = str(data.get("subject") or "")
    facts = {
        "number": data.get("number"),
        "subject": subject if len(subject) <= _SUBJECT else subject[: _SUBJECT - 1] + "…",
        "metric": words.get(str(data.get("metric")), str(data.get("metric") or "SLA")),
        "step": data.get("step"),
        "breaches": data.get("breaches"),
        "team": data.get("team") or words["no_team"],
    }
    if data.get("what") in ("page", "storm"):
        return words[str(data["what"])].format(**facts)
    key, span = _step(str(data.get("step") or "100%"), words)
    text = words[key].format(**facts, span=span)
    return words["late"].format(text=text) if data.get("late") else text


def _step(name: str, words: Mapping[str, str]) -> tuple[str, str]:
    """The sentence for a step's canonical name: `75%`, `30m before`, `15m after`."""
    if name.endswith("%"):
        percent = int(name[:-1])
        return ("broken" if percent == 100 else "share" if percent < 100 else "over"), ""
    amount, _, side = name.partition(" ")
    return ("before" if side == "before" else "after"), f"{amount[:-1]} {words.get(amount[-1:], amount[-1:])}"
