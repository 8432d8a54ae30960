"""The admin in a real browser: it works under its policy, and never runs what others wrote."""

import re
import secrets

import pytest
from playwright.sync_api import expect

from testing.client import Caller, good, new_id
from testing.service import Service
from testing.upstream import Upstream
from tests.support.browser import Watch
from tests.support.browser_fixtures import OpenAdmin

DARK_GROUND = "rgb(21, 25, 27)"  # as on the chat page: palette.css
FOREIGN = """async () => {
    document.body.insertAdjacentHTML("beforeend", '<img src="/nada.png" onerror="window.ran = 1">');
    await document.querySelector('img[src="/nada.png"]').decode().catch(() => {});
    const script = document.createElement("script");
    script.textContent = "window.ran = 2";
    document.body.append(script);
    const link = document.createElement("a");
    link.href = "javascript:window.ran = 3";
    document.body.append(link);
    link.click();
    const evaluate = () => { try { eval("window.ran = 4"); } catch (problem) { return problem.name; } };
    return [await new Promise((resolve) => setTimeout(() => resolve(evaluate()))), window.ran];
}"""


def conversations(service: Service, upstream: Upstream) -> str:
    """Two sessions with hostile texts and titles; returns the beginning of their ids."""
    caller, prefix = Caller(service), new_id("alheia")
    for number in (1, 2):
        upstream.reply("<script>window.ran = 'resposta'</script> resposta")
        caller.chat("<img src=x onerror=\"window.ran = 'pergunta'\">", session_id=f"{prefix}-{number}")
    return prefix


def test_the_admin_works_under_its_policy(service: Service, upstream: Upstream, open_admin: OpenAdmin) -> None:
    prefix = conversations(service, upstream)
    page = open_admin("/")
    page.locator(".theme-toggle").first.click()
    expect(page.locator("html[data-theme=dark] body")).to_have_css("background-color", DARK_GROUND)
    page.goto(f"/admin/sessions_api/session/?q={prefix}")
    expect(page.locator("#result_list tbody tr")).to_have_count(2)
    page.locator("#result_list tbody th a").first.click()
    expect(page.locator(".transcript")).to_contain_text("<script>window.ran = 'resposta'</script> resposta")
    assert page.evaluate("window.ran") is None

    page.goto(f"/admin/sessions_api/session/?q={prefix}")
    page.locator("#action-toggle").check()
    expect(page.locator("tr.selected")).to_have_count(2)
    page.locator("select[name=action]").select_option("delete_selected")
    page.locator("button[name=index]").click()
    page.locator("#content form [type=submit]").click()
    page.goto(f"/admin/sessions_api/session/?q={prefix}")
    expect(page.locator("#result_list tbody tr")).to_have_count(0)


def test_the_admins_widgets_work_under_its_policy(open_admin: OpenAdmin) -> None:
    page = open_admin("/auth/user/1/change/")
    for opener, box in (("#clocklink0", "#clockbox0"), ("#calendarlink0", "#calendarbox0")):
        page.locator(opener).click()
        expect(page.locator(box)).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.locator(box)).to_be_hidden()
    page.locator("#calendarlink0").click()
    page.locator("#calendarbox0 td:not(.nonday) a").first.click()
    expect(page.locator("#id_last_login_0")).to_have_value(re.compile(r"\d"))
    expect(page.locator(".selector-chosen")).to_have_count(2)
    page.goto("/admin/auth/user/add/")
    page.goto("/admin/password_change/")


@pytest.mark.parametrize("path", ["/admin/", "/admin/sessions_api/session/", "/admin/auth/user/1/change/", "/schema"])
def test_a_script_that_gets_into_a_page_is_not_run(
    service: Service, open_admin: OpenAdmin, watch: Watch, path: str
) -> None:
    watch.expects("Content Security Policy", "script-src", "status of 404")
    page = open_admin("/")
    page.goto(path)
    assert page.evaluate(FOREIGN) == ["EvalError", None]
    assert len([said for said in watch.complaints if "Content Security Policy" in said]) >= 3


def test_an_operator_makes_a_client_and_a_key_and_revokes_it(service: Service, open_admin: OpenAdmin) -> None:
    name = f"Portal {secrets.token_hex(4)}"
    page = open_admin("/access/client/add/")
    page.locator("#id_name").fill(name)
    page.locator("[name=scopes][value='sessions:erase']").check()
    page.locator("[name=_continue]").click()
    page.locator("#keys .addlink").click()
    page.locator("#id_label").fill("app")
    page.locator("[name=_save]").click()
    whole = page.locator("#whole-key").inner_text()
    caller, session = Caller(service, key=whole), new_id()
    caller.chat("Oi", session_id=session)
    good(caller.call("DELETE", f"/sessions/{session}?erase=true"))
    page.locator("#content-main .button").click()
    expect(page.get_by_text(whole[:15]).first).to_be_visible()
    assert whole not in page.content()
    page.locator("#keys .deletelink").click()
    page.locator("#content-main [type=submit]").click()
    expect(page.locator("#keys .deletelink")).to_have_count(0)
    page.goto("/admin/access/auditentry/")
    done = page.locator("td.field-action").all_inner_texts()
    assert done[:4] == ["revoked a key", "erased a session", "created a key", "created a client"]
    assert whole.split("_")[2] not in service.log()
