"""What is known of the mail services' ways with a customer's own domain; a hint for `sender`, never a verdict.

`DKIM`: the selectors under which their setup pages have the customer publish a key. `OWN_RETURN_PATH`: services that put a
bounce address of their own into the envelope, so that SPF speaks of their domain and only DKIM speaks for the customer's.
"""

from __future__ import annotations

DKIM: dict[str, tuple[str, ...]] = {
    "gmail": ("google",),
    "google-workspace-relay": ("google",),
    "microsoft365": ("selector1", "selector2"),
    "icloud": ("sig1",),
    "fastmail": ("fm1", "fm2", "fm3"),
    "zoho": ("zmail", "zoho"),
    "yandex": ("mail",),
    "mailru": ("mailru",),
    "proton-token": ("protonmail", "protonmail2", "protonmail3"),
    "proton-bridge": ("protonmail", "protonmail2", "protonmail3"),
    "mailboxorg": ("mbo0001", "mbo0002", "mbo0003", "mbo0004"),
    "ionos": ("s1-ionos", "s2-ionos"),
    "sendgrid": ("s1", "s2"),
    "mailgun": ("k1", "mx", "smtp", "pdk1", "pdk2"),
    "brevo": ("mail", "brevo1", "brevo2"),
    "mailjet": ("mailjet",),
    "resend": ("resend",),
}
OWN_RETURN_PATH = ("brevo", "mailgun", "mailjet", "postmark", "resend", "scaleway", "sendgrid", "ses", "smtp2go")
