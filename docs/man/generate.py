"""Write the man pages from the declarations: `python docs/man/generate.py` (a test says when they are stale).

Keys of dma.conf come from `dma_runtime.config`, options of dmad, dma-queue and dma-setup from their own parsers, the
letters of dma's command line from `dma_runtime.cmd.options`. What is prose stands here. mdoc(7); `mandoc -T lint` is clean.
"""

import argparse
import pathlib
import sys
import textwrap

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from dma_runtime import config  # noqa: E402 the checkout comes first
from dma_runtime.cmd import daemon, options, queue  # noqa: E402
from dma_setup import cli  # noqa: E402

DATE = "November 22, 2026"

# What dma does with a letter; the letters that are accepted and ignored are taken from the declaration.
DMA = [
    ("b Ns Cm p", "Show the queue, as mailq does."),
    ("b Ns Cm q", "Only queue: the message leaves when the queue is run."),
    ("b Ns Cm i", "Check the alias file, as newaliases does. Each bad line is named; mail goes on meanwhile."),
    ("b Ns Cm v", "Say where mail for each recipient would go, and send nothing. The status is 67 when one would be refused."),
    ("b Ns Cm s", "Speak SMTP on standard input and output, REQUIRETLS and DSN included."),
    ("b Ns Cm m", "Take a message; this is what happens without it."),
    (
        "C Ar file",
        "Use this configuration file. A file without a known key is ignored with a warning, and so are a sendmail.cf that is "
        "not there and a directory, which other mail agents mean by it.",
    ),
    ("D", "Stay in the foreground: return after the first attempt. With -q after one attempt of all that is queued."),
    ("F Ar name", "Full name of the sender, for a message without a From field."),
    ("f Ar address", "Envelope sender; an empty one is the null sender. -r is the same."),
    ("i", "A line with a single dot does not end the message. -oi and -OIgnoreDots are the same."),
    ("L Ar tag", "Tag of the log lines."),
    ("N Ar notify", "Delivery status notification: never, or a list of failure, delay, success."),
    ("q", "Attempt everything queued now, whatever its back-off says; each item keeps its own schedule."),
    ("R Ar return", "How much of the message a notification returns: full or hdrs."),
    ("t", "Take recipients from the To, Cc and Bcc fields as well; Bcc is removed in any case."),
    ("V Ar id", "Envelope identifier for notifications."),
    ("v", "Show the dialogue with the relay; logins are not shown."),
]

STATUS = [
    ("0", "The message is safe on disk."),
    ("64", "The command line cannot be understood."),
    ("65", "An address or the message cannot be sent as it is."),
    ("66", "No recipients, or the message or configuration cannot be read."),
    ("67", "With -bv: an address would be refused."),
    ("68", "Nothing may leave this machine (LOCALONLY)."),
    ("69", "The message is larger than MAXSIZE."),
    ("70", "The alias file cannot be read, or has bad lines (-bi); or a bug of ours."),
    ("73", "The spool cannot be used, and that will not pass by itself."),
    ("74", "What was asked for cannot be written to standard output."),
    ("75", "The spool, or the machine's mail service, cannot be used now: try again later."),
    ("78", "The configuration has a bad value; the line says where."),
]


def text(words):
    """Prose fit for mdoc: no line starts with a control character, backslashes are shown."""
    lines = []
    for line in words.replace("\\", "\\e").split("\n"):
        lines.append("\\&" + line if line[:1] in (".", "'") else line)
    return "\n".join(lines)


def sentences(words):
    """One sentence a line, as mandoc wants it."""
    return text(words.replace(". ", ".\n"))


def head(name, section, says):
    return f'.Dd {DATE}\n.Dt {name.upper()} {section}\n.Os\n.Sh NAME\n.Nm {name}\n.Nd {says}\n'


def listing(items):
    out = [".Bl -tag -width Ds"]
    for term, says in items:
        out += [f".It {term}", sentences(says)]
    return "\n".join([*out, ".El"]) + "\n"


def default(key):
    value = key.default
    if key.parse is config.free_space:
        return "Default: 100M, or 5% where that is less."
    if key.parse is config.flag:
        return ""
    if value is None or value == ():
        return "Not set by default."
    shown = {config.duration: lambda v: duration(v), config.wait: lambda v: duration(v), config.largest: lambda v: size(v)}
    if key.parse in shown:
        value = shown[key.parse](value)
    elif key.parse is config.durations:
        value = " ".join(duration(v) for v in value)
    elif isinstance(value, tuple):
        return ""
    return f"Default: {value}."


def duration(seconds):
    for length, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def size(count):
    return f"{count >> 20}M" if count % (1 << 20) == 0 else str(count)


ARGUMENT = {
    config.path: "path", config.queue_path: "path", config.port: "port", config.host: "host", config.hosts: "hosts",
    config.duration: "duration", config.wait: "duration",
    config.durations: "first longest", config.largest: "size", config.count: "number", config.rate: "rate",
    config.fingerprint: "fingerprint", config.masquerade: "address", config.smarthost: "host", config.words: "text",
    config.host_name: "host",
    config.free_space: "size", config.names: "logins", config.delivery: "where", config.marks: "words",
}  # fmt: skip


def keys(origin):
    found = []
    for name, key in config.KEYS.items():
        if key.origin != origin:
            continue
        argument = ARGUMENT.get(key.parse, "")
        later = " Understood, but without effect in this version." if key.later else ""
        says = " ".join(part for part in (key.says, default(key)) if part) + later
        found.append((f"Cm {name}" + (f" Ar {argument}" if argument else ""), says))
    return listing(found)


def arguments(parser):
    """An argparse parser's options and positional arguments."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
            continue
        if action.option_strings:
            names = " , ".join(f"Fl {option.removeprefix('-')}" for option in action.option_strings)
            value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
            if isinstance(value, tuple):
                value = " ".join(value)
            found.append((names + (f" Ar {value}" if value else ""), f"{action.help or ''}".capitalize().rstrip(".") + "."))
    return listing(found) if found else ""


def verbs(parser):
    """An argparse parser's verbs with their own options."""
    out = []
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            continue
        helps = {choice.dest: choice.help for choice in action._choices_actions}
        for name, sub in action.choices.items():
            words, says = [f"Cm {name}"], [(helps.get(name) or "").capitalize().rstrip(".") + "."]
            for item in sub._actions:
                if item.help == argparse.SUPPRESS or "-h" in item.option_strings:
                    continue
                if not item.option_strings:
                    argument = f"Ar {item.metavar or item.dest}"
                    words.append(f"Oo {argument} Oc" if item.nargs == "?" else argument + (" ..." if item.nargs == "+" else ""))
                    continue
                words.append(f"Oo Fl {item.option_strings[-1].removeprefix('-')} Oc")
                if item.help and item.option_strings[-1] != "--json":
                    says.append(f"With {item.option_strings[-1]}: {item.help}.")
            out.append((" ".join(words), " ".join(says)))
    return listing(out)


def wrapped(page):
    """Text lines at most 78 bytes wide; lines of macros stay whole."""
    lines = []
    for line in page.splitlines():
        lines += [line] if line.startswith(".") else textwrap.wrap(line, 78, break_on_hyphens=False)
    return "\n".join("\\&" + line if line[:1] == "'" else line for line in lines) + "\n"


def dma_8():
    known = {term.split()[0] for term, _ in DMA} | set("bqoCr")
    letters = set(options.ALONE) | set(options.VALUE) | set(options.ATTACHED)
    ignored = sorted(letters - known, key=lambda letter: (letter.lower(), letter))
    page = head("dma", 8, "a mail agent that sends")
    page += """.Sh SYNOPSIS
.Nm
.Op Fl Dit
.Op Fl b Ns Ar mode
.Op Fl C Ar file
.Op Fl F Ar name
.Op Fl f Ar address
.Op Fl L Ar tag
.Op Fl N Ar notify
.Op Fl R Ar return
.Op Fl V Ar id
.Op Ar recipient ...
.Nm
.Op Fl D
.Fl q
.Nm mailq
.Nm newaliases
.Sh DESCRIPTION
.Nm
takes a message on standard input and returns 0 as soon as it is safe on disk; delivery goes on without the caller.
It never waits for the network unless
.Fl D
is given.
Started as
.Nm mailq
it shows the queue, started as
.Nm newaliases
it checks the alias file; every other name, such as
.Nm sendmail ,
takes mail.
.Pp
A message whose relay is down, or refuses the login, is kept and tried again; nothing bounces for a wrong password.
What somebody has to see to is said on standard error before anything else, until it is mended.
.Pp
Which configuration applies decides who delivers.
With that of the machine the message is handed to
.Xr dmad 8
over its socket, and the kernel says who sent it.
With one of the user's own, or a file named by
.Fl C
or
.Ev DMA_CONF ,
the caller writes the queue himself and leaves a
.Xr dmad 8
behind that ends with it; unless the file sets
.Cm SOCKET ,
which makes it one for a daemon.
.Sh OPTIONS
"""
    page += listing([(f"Fl {term}", says) for term, says in DMA])
    page += ".Pp\nAccepted with their own arguments, and ignored, are the other options of sendmail, Postfix and Exim:\n"
    page += "\n".join(f".Fl {letter}{' ,' if letter != ignored[-1] else ' .'}" for letter in ignored) + "\n"
    page += ".Sh ENVIRONMENT\n" + listing(
        [
            ("Ev DMA_CONF", "Configuration file, when -C names none."),
            ("Ev EMAIL", "Sender, when -f names none; may be a name and an address."),
            ("Ev LOGNAME , USER", "The caller's login, if it is one of his."),
            ("Ev TMPDIR", "Where a large message is held while it is read for the machine's daemon."),
            ("Ev XDG_CONFIG_HOME , XDG_STATE_HOME", "Where user mode looks for its files."),
        ]
    )
    page += ".Sh FILES\n" + listing(
        [
            ("Pa ~/.config/dma/dma.conf", "Configuration of user mode; never read for root."),
            ("Pa /etc/dma/dma.conf", "Configuration of the machine."),
            ("Pa /etc/aliases", "Aliases, see ALIASES in dma.conf."),
            ("Pa ~/.forward", "Where a user's mail goes instead; used when only its owner can write it."),
            ("Pa /run/dma/submit.sock", "Where the machine's daemon takes mail."),
            ("Pa /var/spool/dma", "The machine's queue; that of a user is in ~/.local/state/dma/spool."),
            ("Pa ~/dead.letter", "A message that could not be spooled, kept only for a person at a terminal."),
        ]
    )
    page += ".Sh EXIT STATUS\n" + listing([(status, says) for status, says in STATUS])
    page += ".Sh SEE ALSO\n.Xr dma.conf 5 ,\n.Xr dma-queue 8 ,\n.Xr dma-setup 8 ,\n.Xr dmad 8\n"
    page += ".Sh STANDARDS\nRFC 5321, RFC 5322, RFC 2920, RFC 3030, RFC 3461, RFC 3464, RFC 4954, RFC 8689,\n"
    page += "and the LSB sendmail interface.\n"
    return page


def dma_conf_5():
    page = head("dma.conf", 5, "configuration of dma")
    page += """.Sh DESCRIPTION
One key a line, its value behind blanks.
.Ql #
starts a comment at the start of a line or after a blank.
Keys are case-sensitive, the last one wins.
A key without a value switches something on.
An unknown key is a warning; a value that cannot be understood stops mail with exit status 78 and names the line.
Durations are written
.Ql 90s ,
.Ql 5m ,
.Ql 3h ,
.Ql 5d ;
sizes
.Ql 100M .
A changed file is in force at once, for waiting mail too; one that is gone, or was emptied a moment ago, changes nothing yet.
.Ss Keys of the Dragonfly Mail Agent
"""
    page += keys("dma") + ".Ss Keys of this program\n" + keys("new")
    page += ".Ss Keys of forks and old versions\n" + keys("fork")
    page += """.Ss auth.conf
The file named by
.Cm AUTHPATH
has a line for each relay:
.Dl login|host:password
or, for one port only,
.Dl login|host:587:password
The password may be a reference:
"""
    page += listing(
        [
            ("Li keyring\\&:", "The entry of service dma:HOST and this login in the keyring that KEYRING names."),
            ("Li credential\\&: Ns Ar name", "A file in $CREDENTIALS_DIRECTORY."),
            ("Li file\\&: Ns Ar path", "The first line of a file that others cannot read."),
            ("Li command\\&: Ns Ar words", "The first line a command prints; no shell, run by the owner of the queue."),
            ("Li literal\\&: Ns Ar text", "A password that starts like one of the above."),
        ]
    )
    page += """.Ss Where mail goes
Mail for a bare name is delivered on this machine.
All else goes to the relay that the line of
.Cm RELAYMAP
for its sender names, else to
.Cm SMARTHOST ,
else to the mail exchangers of the recipient's domain, on port 25.
.Pp
When the smarthost takes no mail, because it cannot be reached, does not let this machine in or refuses the login,
the relays of
.Cm FALLBACK
are tried in their order, in the same attempt.
They are no second opinion: what the smarthost says about a message, a sender or a recipient holds.
Each relay gets its own login and no other, by the line of auth.conf for its host and port.
On a relay that is not the smarthost, port 465 means TLS from the start and 587 and 25 mean STARTTLS;
.Cm FINGERPRINT
is the smarthost's, and other relays are verified by their name instead.
.Pp
With
.Cm LMTP
the port is 24 unless it is said otherwise, and SMARTHOST may be the path of a socket.
.Ss RELAYMAP
The file has a line for each pattern of senders:
.Dl PATTERN RELAY [LOGIN]
The most specific pattern that fits the envelope sender counts, whatever the order of the lines; case does not:
"""
    page += listing(
        [
            ("Ar local Ns Li @ Ns Ar domain", "That address."),
            ("Li @ Ns Ar domain", "Every address of the domain."),
            ("Li @. Ns Ar domain", "Every address of the domains below it; the longest counts."),
            ("Ar local Ns Li @", "That name in any domain."),
            ("Li <>", "The null sender of reports."),
            ("Li *", "Everybody, reports included."),
        ]
    )
    page += """The relay is written as in
.Cm SMARTHOST ;
without a port it is that of
.Cm PORT .
The login chooses among the lines that auth.conf has for the relay; without one it is the line there is, and
.Ql -
is no login at all.
A login that auth.conf does not have there holds the mail.
A bad line is a warning, the others work.
.Bd -literal -offset indent
alice@example.org  smtp.example.org:587  alice@example.org
bob@example.org    smtp.example.org:587  bob@example.org
@example.net       mail.example.net
.Ed
"""
    page += ".Sh FILES\n" + listing(
        [
            ("Pa ~/.config/dma/dma.conf", "The user's own, if there is one."),
            ("Pa ~/.config/dma/auth.conf , ~/.local/state/dma/spool", "AUTHPATH and SPOOLDIR then, where it is silent."),
            ("Pa /etc/dma/dma.conf", "The machine's. A missing file means the defaults."),
        ]
    )
    page += ".Sh SEE ALSO\n.Xr dma 8 ,\n.Xr dma-queue 8 ,\n.Xr dma-setup 8 ,\n.Xr dmad 8\n"
    return page


def dmad_8():
    parser = daemon.parser()
    page = head("dmad", 8, "the process that owns the mail queue")
    page += ".Sh SYNOPSIS\n.Nm\n.Op Fl C Ar file\n.Op Fl -leave-when-empty\n.Op Fl -run\n.Op Fl v\n.Op Fl -debug\n.Sh DESCRIPTION\n"
    page += """.Nm
delivers what is queued, tries again what is deferred, and reports what failed.
One of it runs for each queue at a time.
In user mode a submission leaves one behind, which ends when nothing is left to try; nobody need start it by hand.
A configuration or password that changes is read again, and frees what waits for it.
On a machine it serves the submission socket: it binds SOCKET, or takes what
.Xr systemd 1
hands it, and becomes the user dma before it touches network or queue.
What has stood for a day and needs somebody is told to root by one letter then.
.Pp
Where there is no
.Xr systemd 1 ,
any supervisor runs it in the foreground, started as root, and beside it
.Dl dma-mailbox --listen /run/dma/mailbox.sock
as root too, which puts mail into the mailboxes of this machine.
As process 1 of a container it passes signals on and buries orphans.
.Sh OPTIONS
"""
    page += arguments(parser) + ".Sh SIGNALS\n" + listing(
        [
            ("Dv SIGHUP", "Read configuration and secrets again, and try what waits."),
            ("Dv SIGTERM , SIGINT", "Begin nothing new, bring what is under way to its end within 25 seconds, and leave."),
        ]
    )
    page += ".Sh EXIT STATUS\n" + listing(
        [
            ("0", "It was told to end, or nothing is left to try."),
            ("64", "The command line cannot be understood."),
            ("66", "The configuration cannot be read."),
            ("73", "The queue or the socket cannot be used, and that will not pass by itself."),
            ("75", "Another dmad is there, or the queue cannot be used now."),
            ("78", "The configuration has a bad value, or the account dma is missing."),
        ]
    )
    return page + ".Sh SEE ALSO\n.Xr dma.conf 5 ,\n.Xr dma 8 ,\n.Xr dma-queue 8\n"


def dma_queue_8():
    parser = queue.parser()
    page = head("dma-queue", 8, "look at the mail queue and change it")
    page += ".Sh SYNOPSIS\n.Nm\n.Op Fl C Ar file\n.Ar verb\n.Op Ar argument ...\n.Sh DESCRIPTION\n"
    page += """Shows what is queued, for whom, why it waits and until when, and carries out what an operator decides.
Every verb is safe while
.Xr dmad 8
is at work.
With
.Fl -json
the answer is JSON:
.Cm list
prints an array of objects with
.Li id , sender , recipients
.Po
a list of
.Li address , state , attempts , next_attempt , last_error
.Pc ,
.Li size , accepted_at , age
and
.Li state .
.Pp
.Cm list Fl -check
prints a line for each cause, or
.Ql ok, N queued .
A cause is what somebody has to see to (a login refused, a full disk), mail older than a day, a message that has failed and
could not be returned, what keeps all mail from being taken: a value in
.Xr dma.conf 5 ,
nobody who listens at the machine's socket, a disk without the room that MINFREE asks for,
or mail that C dma left and
.Cm adopt
has to take over.
.Cm retry
of such a message tries those recipients again of whom the sender could not be told.
.Sh VERBS
"""
    page += verbs(parser) + ".Sh OPTIONS\n" + arguments(parser)
    page += ".Sh EXIT STATUS\n" + listing(
        [
            ("0", "Done."),
            ("1", "There is no such message, it is held, damaged or being delivered, or list --check found something to see to."),
            ("64", "The command line cannot be understood."),
            ("66", "The configuration cannot be read."),
            ("73", "The queue cannot be used, and that will not pass by itself."),
            ("75", "The queue cannot be reached now."),
            ("78", "The configuration has a bad value. Only what delivers (retry, run) is stopped by it."),
        ]
    )
    return page + ".Sh SEE ALSO\n.Xr mailq 1 ,\n.Xr dma 8 ,\n.Xr dmad 8\n"


# Options that a recipe's command has, in the order of the page; the sentences are those of `--help`.
EVERYWHERE = ("--json", "--yes", "--user", "--system", "--root")
COMMON = ("--answers", "--set", "--check", "--diff", "--no-verify", "--no-test", *EVERYWHERE)


def dma_setup_8():
    parser = cli.parser("gmail")
    choices = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    recipe, own = choices["gmail"], [name for name in choices if name in cli.VERBS]
    page = head("dma-setup", 8, "set mail up, prove it, and take it back")
    page += ".Sh SYNOPSIS\n.Nm\n.Nm\n.Ar recipe\n.Op Ar options\n.Nm\n.Ar command\n.Op Ar options\n.Sh DESCRIPTION\n"
    page += """Asks what it cannot know, signs in with the relay before anything is written, shows the plan, applies it, and
proves it with a real message.
Without an argument it offers the recipes;
.Cm list
shows them.
Run again with the same answers it changes nothing.
.Pp
Without root, or with
.Fl -user ,
mail is set up for one person; root sets up the machine.
.Sh OPTIONS OF A RECIPE
"""
    actions = {string: action for action in recipe._actions for string in action.option_strings}
    page += listing(
        [
            (f"Fl {name.removeprefix('-')}" + (f" Ar {actions[name].metavar}" if actions[name].metavar else ""),
             f"{actions[name].help}"[0].upper() + f"{actions[name].help}"[1:].rstrip(".") + ".")
            for name in COMMON
        ]
    )  # fmt: skip
    page += ".Sh COMMANDS\n" + listing([_command(name, choices[name], parser) for name in own])
    page += """.Sh ANSWERS
.Cm show Ar recipe
prints an answers file to fill in, in YAML; TOML and JSON do as well.
Everything that is missing or wrong is said at once.
A secret is a reference, never a value on the command line:
""" + listing(
        [
            ("Li {env: NAME}", "An environment variable; sudo passes none on by default."),
            ("Li {file: PATH}", "The first line of a file that only its owner can read."),
            ("Li {command: WORDS}", "The first line that a program prints; root runs none out of a file that others can change."),
            ("Li {credential: NAME}", "A file below CREDENTIALS_DIRECTORY."),
            ("Li {stdin: true}", "The first line of standard input."),
            ("Li {keyring: true}", "The password that is stored already."),
        ]
    )
    page += """An ansible-vault value is opened with Ansible's own library where that is installed.
The answers of the last run, without the secret, are kept beside dma.conf as
.Pa answers.RECIPE.yml .
.Sh ENVIRONMENT
""" + listing(
        [
            ("Ev NO_COLOR", "No colours."),
            ("Ev ACCESSIBLE", "Set to 1: plain questions, numbered choices and words for marks, for screen readers."),
        ]
    )
    page += ".Sh FILES\n" + listing(
        [
            ("Pa /etc/dma , ~/.config/dma", "The settings, and recipes of one's own below recipes/."),
            ("Pa /var/lib/dma-setup , ~/.local/state/dma-setup", "The journals that undo reads, kept for 30 days."),
        ]
    )
    page += ".Sh EXIT STATUS\n" + listing(
        [
            ("0", "Done, or nothing to do; of doctor: mail flows as far as can be seen."),
            ("1", "Failed, and what was undone is said; of doctor: somebody has to do something."),
            ("2", "The command line or the answers cannot be used; nothing was touched."),
            ("3", "With --check: something would change."),
            ("130", "Stopped by Ctrl-C; nothing was changed, or it is said what was."),
        ]
    )
    page += """.Sh EXAMPLES
.Bd -literal -offset indent
dma-setup gmail
dma-setup show smarthost > answers.yml
dma-setup smarthost --answers answers.yml --check --diff
dma-setup doctor --json
dma-setup undo --check
.Ed
"""
    return page + ".Sh SEE ALSO\n.Xr dma.conf 5 ,\n.Xr dma 8 ,\n.Xr dma-queue 8 ,\n.Xr dmad 8\n"


def _command(name, sub, parser):
    """(what is typed, what it does) of one command; what every command has is left out."""
    group = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    says = [next(choice.help for choice in group._choices_actions if choice.dest == name).capitalize().rstrip(".") + "."]
    words = [f"Cm {name}"]
    shown = COMMON if "--set" in sub._option_string_actions else EVERYWHERE
    for item in sub._actions:
        if isinstance(item, argparse._SubParsersAction):
            words.append("Ar " + " | ".join(f"Cm {verb}" for verb in item.choices).removeprefix("Cm ").replace("Ar Cm", "Cm"))
            says += [f"{choice.dest}: {choice.help}." for choice in item._choices_actions]
        elif not item.option_strings:
            argument = f"Ar {item.metavar or item.dest}"
            words.append(f"Oo {argument} Oc" if item.nargs == "?" else argument + (" ..." if item.nargs == "+" else ""))
        elif item.option_strings[-1] not in (*shown, "--help") and item.help:
            value = f" Ar {item.metavar}" if item.metavar else ""
            words.append(f"Oo Fl {item.option_strings[-1].removeprefix('-')}{value} Oc")
            says.append(f"With {item.option_strings[-1]}: {item.help}.")
    return " ".join(words).replace("Ar set |", "Cm set |"), " ".join(says)


PAGES = {
    "dma.8": dma_8,
    "dma.conf.5": dma_conf_5,
    "dmad.8": dmad_8,
    "dma-queue.8": dma_queue_8,
    "dma-setup.8": dma_setup_8,
}


def main():
    for name, page in PAGES.items():
        (pathlib.Path(__file__).parent / name).write_text(wrapped(page()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
