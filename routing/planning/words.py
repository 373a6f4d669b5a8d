"""What planning says to people, in English, Ukrainian and Russian. Data only; every language has every key."""

from collections.abc import Mapping
from typing import Any

NOTES: Mapping[str, Mapping[str, str]] = {
    "en": {
        "no_history": "Nothing is recorded yet: the forecast is empty.",
        "short_history": "Only {days} days are recorded: weekdays cannot be told apart well yet.",
        "guessed_handle_time": "{team}, {channel}: fewer than {least} finished contacts; {minutes} min is a guess.",
        "no_patience": "{team}, {channel}: fewer than {least} customers gave up; they are taken to wait without end.",
        "fewer_at_once": "{team}, {channel}: {limit} at once are planned for, {seen} were seen on average: the handle "
        "time was measured with fewer, so more people may be needed.",
        "today_differs": "{team}, {channel}: today brings {percent} % of what was expected; so will its rest.",
        "no_shifts": "{team}: {n} of {of} agents have no shifts of their own; the team's hours count for them.",
        "shared_agents": "{team}: {n} agents also serve other teams and are counted in each.",
        "parked": "{team}: what comes while it is closed is counted from the next opening on.",
        "no_team": "{n} requests of the record belong to no team and are in no forecast.",
        "presence_unknown": "Who was there then is not recorded; the shifts of today's calendars are used.",
        "presence_partly_known": "{n} of {of} agents left no record of their presence; they are taken as absent.",
        "handle_time_drawn": "{n} of {of} contacts were given up or are not finished; their handle time is drawn "
        "from the others'.",
        "requests_left_out": "{n} requests are left out: they belong to no team that exists.",
        "people_as_of_now": "Skills, teams and limits of agents are today's; rules and hours are those of then.",
        "rules_of_then": "{team}: the rules of then are used, version {then}; today they are version {now}.",
        "rules_edited": "{team}: the rules were edited in this period ({n}); those of its beginning are used, version "
        "{then}.",
        "baseline_differs": "{channel}: the simulation answers {simulated} % in time where {recorded} % were: "
        "compare its two columns with each other, not with the record.",
        "baseline_answers_differ": "{channel}: of {of} the simulation answers {simulated}, {recorded} really were: "
        "compare its two columns with each other, not with the record.",
        "added_idle": "{name} was added and got nothing to do: are the skills that requests ask for there?",
        "nobody_there": "{team}: nobody is there; nothing that waits will be answered.",
        "items_left_out": "More than {n} requests are open: the most urgent {n} are looked at.",
    },
    "uk": {
        "no_history": "Ще нічого не записано: прогноз порожній.",
        "short_history": "Записано лише {days} дн.: дні тижня поки важко розрізнити.",
        "guessed_handle_time": "{team}, {channel}: завершено менш ніж {least} звернень; {minutes} хв — припущення.",
        "no_patience": "{team}, {channel}: менш ніж {least} клієнтів не дочекалися; вважаємо, що чекають без кінця.",
        "fewer_at_once": "{team}, {channel}: розраховано на {limit} одночасно, у середньому було {seen}: час обробки "
        "виміряно за меншої кількості, тож людей може знадобитися більше.",
        "today_differs": "{team}, {channel}: сьогодні {percent} % від очікуваного; решту дня враховано так само.",
        "no_shifts": "{team}: {n} з {of} операторів не мають власних змін; для них діють години команди.",
        "shared_agents": "{team}: {n} операторів працюють і в інших командах; їх пораховано в кожній.",
        "parked": "{team}: що надходить у неробочий час, враховано від наступного відкриття.",
        "no_team": "{n} записаних звернень не належать жодній команді й не входять у прогноз.",
        "presence_unknown": "Хто тоді був на місці, не записано; узято зміни з нинішніх календарів.",
        "presence_partly_known": "{n} з {of} операторів не мають записів присутності; вважаємо їх відсутніми.",
        "handle_time_drawn": "{n} з {of} звернень не дочекалися або не завершені; час їх обробки взято "
        "з інших навмання.",
        "requests_left_out": "{n} звернень пропущено: їхньої команди немає.",
        "people_as_of_now": "Навички, команди й ліміти операторів нинішні; правила й години — тодішні.",
        "rules_of_then": "{team}: узято тодішні правила, версію {then}; нині діє версія {now}.",
        "rules_edited": "{team}: правила в цей час змінювали ({n}); узято ті, що діяли на початку, версію {then}.",
        "baseline_differs": "{channel}: у симуляції вчасно {simulated} %, насправді було {recorded} %: порівнюйте дві "
        "колонки симуляції між собою, а не із записом.",
        "baseline_answers_differ": "{channel}: з {of} у симуляції відповіли на {simulated}, насправді на {recorded}: "
        "порівнюйте дві колонки симуляції між собою, а не із записом.",
        "added_idle": "{name} додано, але роботи не дісталося: чи є навички, яких потребують звернення?",
        "nobody_there": "{team}: нікого немає на місці; на те, що чекає, ніхто не відповість.",
        "items_left_out": "Відкрито понад {n} звернень: розглянуто {n} найтерміновіших.",
    },
    "ru": {
        "no_history": "Пока ничего не записано: прогноз пуст.",
        "short_history": "Записано только {days} дн.: дни недели пока трудно различить.",
        "guessed_handle_time": "{team}, {channel}: завершено меньше {least} обращений; {minutes} мин — предположение.",
        "no_patience": "{team}, {channel}: меньше {least} клиентов не дождались; считаем, что ждут без конца.",
        "fewer_at_once": "{team}, {channel}: рассчитано на {limit} одновременно, в среднем было {seen}: время "
        "обработки измерено при меньшем числе, поэтому людей может понадобиться больше.",
        "today_differs": "{team}, {channel}: сегодня {percent} % от ожидаемого; остаток дня учтён так же.",
        "no_shifts": "{team}: у {n} из {of} операторов нет своих смен; для них действуют часы команды.",
        "shared_agents": "{team}: {n} операторов работают и в других командах; они учтены в каждой.",
        "parked": "{team}: пришедшее в нерабочее время учтено со следующего открытия.",
        "no_team": "{n} записанных обращений не принадлежат ни одной команде и не входят в прогноз.",
        "presence_unknown": "Кто тогда был на месте, не записано; взяты смены из нынешних календарей.",
        "presence_partly_known": "У {n} из {of} операторов нет записей присутствия; считаем их отсутствующими.",
        "handle_time_drawn": "{n} из {of} обращений не дождались или не завершены; время их обработки взято "
        "у других наугад.",
        "requests_left_out": "{n} обращений пропущено: их команды нет.",
        "people_as_of_now": "Навыки, команды и лимиты операторов нынешние; правила и часы — тогдашние.",
        "rules_of_then": "{team}: взяты тогдашние правила, версия {then}; сейчас действует версия {now}.",
        "rules_edited": "{team}: правила в это время меняли ({n}); взяты действовавшие в начале, версия {then}.",
        "baseline_differs": "{channel}: в симуляции вовремя {simulated} %, на деле было {recorded} %: сравнивайте две "
        "колонки симуляции между собой, а не с записью.",
        "baseline_answers_differ": "{channel}: из {of} в симуляции ответили на {simulated}, на деле на {recorded}: "
        "сравнивайте две колонки симуляции между собой, а не с записью.",
        "added_idle": "{name}: добавлено, но работы не досталось: есть ли навыки, которых требуют обращения?",
        "nobody_there": "{team}: никого нет на месте; на то, что ждёт, никто не ответит.",
        "items_left_out": "Открыто больше {n} обращений: рассмотрены {n} самых срочных.",
    },
}  # fmt: skip

CHANNELS: Mapping[str, Mapping[str, str]] = {
    "en": {"voice": "calls", "chat": "chats", "async": "email and forms", "callback": "callbacks"},
    "uk": {"voice": "дзвінки", "chat": "чати", "async": "пошта й форми", "callback": "зворотні дзвінки"},
    "ru": {"voice": "звонки", "chat": "чаты", "async": "почта и формы", "callback": "обратные звонки"},
}


def note(code: str, **params: Any) -> dict[str, Any]:
    """A note as results keep it: without a language."""
    return {"code": code, "params": params}


def spoken(notes: list[dict[str, Any]], language: str) -> list[dict[str, Any]]:
    """The notes with their text in this language (English if we do not speak it)."""
    texts = NOTES.get(language[:2], NOTES["en"])
    channels = CHANNELS.get(language[:2], CHANNELS["en"])
    shown = []
    for entry in notes:
        params = dict(entry["params"])
        if "channel" in params:
            params["channel"] = channels.get(params["channel"], params["channel"])
        shown.append({**entry, "text": texts[entry["code"]].format(**params)})
    return shown
