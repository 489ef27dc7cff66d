"""Other names for the fields of GitHub's REST API, and the fields that name a repository.

`gh`, GraphQL, exports and spreadsheets each have their own name for a field. Case, spaces
and hyphens do not matter: `nameWithOwner`, `Name With Owner` and `name_with_owner` are one
name.
"""

from __future__ import annotations

import re
from functools import lru_cache

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_NAME = re.compile(r"[^a-z0-9.]+")

_ALIASES = {
    "full_name": "name_with_owner fullname repo_full_name repository_full_name full_repo_name "
    "owner/name owner/repo user/repo repo_path github_repo github_repository",
    "stargazers_count": "stars star_count stars_count stargazers stargazer_count num_stars",
    "forks_count": "forks fork_count num_forks",
    "watchers_count": "watchers watcher_count",
    "open_issues_count": "open_issues open_issue_count",
    "language": "primary_language main_language programming_language",
    "topics": "topic tags tag repository_topics",
    "description": "desc repo_description repository_description",
    "license": "license_info",
    "html_url": "url link repo_url repository_url github_url web_url project_url github "
    "repo_link repository_link github_link github_page",
    "homepage": "homepage_url website",
    "created_at": "created",
    "updated_at": "updated last_updated",
    "pushed_at": "pushed last_pushed",
    "starred_at": "starred date_starred",
    "archived": "is_archived",
    "fork": "is_fork",
    "private": "is_private",
    "disabled": "is_disabled",
    "has_issues": "has_issues_enabled",
    "has_wiki": "has_wiki_enabled",
    "has_projects": "has_projects_enabled",
    "has_discussions": "has_discussions_enabled",
    "size": "disk_usage",
    "default_branch": "default_branch_ref",
    "github_id": "database_id",
    "owner.login": "owner_login",
}
_PLAIN = (
    "id node_id name owner visibility is_template has_pages has_downloads network_count "
    "subscribers_count mirror_url ssh_url clone_url git_url readme score"
)
WHOLE_NAMES = ("repo", "repository", "repo_name", "repository_name", "name", "slug", "project")
"""Fields that hold `owner/name` or an address in some files, and only the name in others."""
OWNER_NAMES = (
    *("owner.login", "owner", "owner_name", "repo_owner", "repository_owner"),
    *("username", "user_name", "user", "org", "organization"),
)
ADDRESSES = ("html_url", "clone_url", "ssh_url", "git_url", "url")

_CANONICAL = {alias: field for field, aliases in _ALIASES.items() for alias in aliases.split()}
_CANONICAL |= {name: name for name in (*_ALIASES, *_PLAIN.split(), *WHOLE_NAMES, *OWNER_NAMES)}

FIELDS = tuple(sorted({*_ALIASES, *_PLAIN.split()}))
"""The fields that `--map` knows."""


@lru_cache(maxsize=4096)
def canonical(name: str) -> str:
    """The REST API's name of the field `name`; `name` itself when the API has none."""
    if len(name) > 64:
        return name
    plain = _NO_NAME.sub("_", _HUMP.sub("_", name).lower()).strip("_").replace("git_hub", "github")
    return _CANONICAL.get(plain) or _CANONICAL.get(name.lower(), name)


@lru_cache(maxsize=256)
def targets(names: tuple[str, ...], taken: frozenset[str] = frozenset()) -> dict[str, str]:
    """Each name's field, but for those that are `taken`. Of several names for one field,
    the field's own gets it, else the first, and the others stay what they are."""
    gone = taken | set(names)
    found: dict[str, str] = {}
    for name in names:
        field = canonical(name)
        found[name] = name if field in gone else field
        gone = gone | {found[name]}
    return found


# Which repository

_FULL_NAME = re.compile(r"[^/\s\x00-\x1f\x7f-\x9f]+/[^/\s\x00-\x1f\x7f-\x9f]+")
_ADDRESS = re.compile(
    r"(?:git\+)?(?:(?P<scheme>https?|ssh|git)://)?(?:[^/@\s]*@)?"
    r"(?P<host>[\w-]+(?:\.[\w-]+)+|localhost)(?::\d+(?=/))?[/:](?P<path>[^?#\s]*)",
    re.ASCII | re.IGNORECASE,
)
_LINK = re.compile(r"(?:\[[^\]]*\]\(|<)([^\s()<>]+)[)>]")  # Markdown's
_NO_OWNERS = frozenset(
    [
        "topics",
        "orgs",
        "sponsors",
        "features",
        "marketplace",
        "collections",
        "search",
        "stars",
        "users",
        "settings",
        "login",
        "explore",
        "trending",
        "notifications",
        "apps",
        "about",
        "pricing",
        "enterprise",
        "gist",
    ]
)


def full_name_in(text: str) -> str | None:
    """`owner/name` from a text with just that, or with the address of a repository; else None."""
    text = text.strip()
    if link := _LINK.fullmatch(text):
        text = link[1]
    if found := _ADDRESS.fullmatch(text.partition("#")[0].partition("?")[0]):
        return _of_address(found["host"].lower(), found["path"], bool(found["scheme"]), text)
    return text if _FULL_NAME.fullmatch(text) else None


def _of_address(host: str, path: str, has_scheme: bool, text: str) -> str | None:
    parts = [part for part in path.split("/") if part]
    labels = host.split(".")
    if labels[0] == "gist" or host.endswith("github.io"):
        return None
    if "repos" in parts[:3] and (labels[0] == "api" or parts[0] == "api"):
        parts = parts[parts.index("repos") + 1 :]
    elif "github" in labels:
        if parts and parts[0].lower() in _NO_OWNERS:
            return None
    elif not has_scheme and "@" not in text:
        # `an.owner/name` is not an address.
        return text if _FULL_NAME.fullmatch(text) else None
    elif len(parts) != 2:
        return None
    if len(parts) > 2 and parts[2] not in ("tree", "blob"):
        return None  # an issue's address, or a list's
    if len(parts) < 2:
        # `github.com/x` is a user's page, and `my.github/x` a repository of `my.github`.
        return None if has_scheme or host in ("github.com", "www.github.com") else text
    return f"{parts[0]}/{parts[1].removesuffix('.git')}"
