"""/docs and /redoc in a real browser, under policies that allow no other host."""

from playwright.sync_api import Page, expect

from testing.service import Service
from tests.support.browser import Watch


def test_the_documentation_works_under_its_policy(service: Service, page: Page) -> None:
    page.goto(f"{service.url}/docs")
    expect(page.get_by_text("Say something to a model").first).to_be_visible()
    operation = page.locator(".opblock", has_text="/health")
    operation.locator(".opblock-summary-control").click()
    operation.get_by_role("button", name="Try it out").click()
    operation.get_by_role("button", name="Execute").click()
    expect(operation.locator(".live-responses-table tbody .response-col_status").first).to_contain_text("200")


def test_redoc_misses_nothing_but_its_makers_logo(service: Service, page: Page, watch: Watch) -> None:
    watch.expects("redoc.ly")  # refused by the policy, so never requested
    page.goto(f"{service.url}/redoc/")
    expect(page.get_by_role("heading", name="A session's messages")).to_be_visible()
    page.locator(".search-input").press_sequentially("cancel")
    expect(page.locator("[data-role='search:results'] li").first).to_be_visible()
