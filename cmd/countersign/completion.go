package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Help is shown below the flags.
func (completionCmd) Help() string {
	return `The script completes commands, flags and values as this build has them.

  bash:  source <(countersign completion bash)
  zsh:   countersign completion zsh > "${fpath[1]}/_countersign"
  fish:  countersign completion fish > ~/.config/fish/completions/countersign.fish`
}

// Run prints the script of one shell, made from the command line as this build has it.
func (c completionCmd) Run(env environment) error {
	parser, err := newParser(io.Discard, io.Discard, func(int) {})
	if err != nil {
		return fmt.Errorf("read the command line: %w", err)
	}
	places := placesOf(parser.Model.Node, "countersign")
	script := map[string]func([]place) string{"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion}[c.Shell]
	_, err = io.WriteString(env.stdout, script(places))
	return err
}

// place is a command, and what may follow it.
type place struct {
	path  string // such as "countersign keys"
	words []word // commands below it, and the values of its arguments
	flags []word
}

// word is something that may be typed, and what it is for.
type word struct{ text, help string }

func placesOf(n *kong.Node, path string) []place {
	here := place{path: path}
	var below []place
	for _, child := range n.Children {
		if child.Hidden {
			continue
		}
		here.words = append(here.words, word{child.Name, helpWord(child.Help)})
		below = append(below, placesOf(child, path+" "+child.Name)...)
	}
	for _, arg := range n.Positional {
		for _, value := range arg.EnumSlice() {
			if value != "" {
				here.words = append(here.words, word{value, ""})
			}
		}
	}
	for _, group := range n.AllFlags(true) {
		for _, flag := range group {
			here.flags = append(here.flags, word{"--" + flag.Name, helpWord(flag.Help)})
		}
	}
	return append([]place{here}, below...)
}

// helpWord is the first sentence of a help text, without what shells would read.
func helpWord(text string) string {
	text, _, _ = strings.Cut(text, ". ")
	text = strings.TrimSuffix(strings.NewReplacer("'", "", "`", "", `"`, "", "\\", "", "$", "", ":", ",", "[", "(", "]", ")").Replace(text), ".")
	return text
}

func texts(words []word) string {
	var out []string
	for _, w := range words {
		out = append(out, w.text)
	}
	return strings.Join(out, " ")
}

// steps are the places that a word leads to, as patterns of a shell's case.
func steps(places []place) string {
	var out []string
	for _, p := range places[1:] {
		out = append(out, `"`+p.path+`"`)
	}
	return strings.Join(out, "|")
}

func bashCompletion(places []place) string {
	var b strings.Builder
	fmt.Fprintf(&b, `# bash completion for countersign
_countersign() {
    local cur="${COMP_WORDS[COMP_CWORD]}" place="countersign" words="" flags="" i
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$place ${COMP_WORDS[i]}" in
            %s) place="$place ${COMP_WORDS[i]}" ;;
        esac
    done
    case "$place" in
`, steps(places))
	for _, p := range places {
		fmt.Fprintf(&b, "        %q) words=%q flags=%q ;;\n", p.path, texts(p.words), texts(p.flags))
	}
	b.WriteString(`    esac
    if [[ "$cur" == -* ]]; then
        words="$flags"
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _countersign countersign
`)
	return b.String()
}

func zshCompletion(places []place) string {
	var b strings.Builder
	fmt.Fprintf(&b, `#compdef countersign
# zsh completion for countersign
_countersign() {
    local place="countersign" i
    local -a commands flags
    for ((i = 2; i < CURRENT; i++)); do
        case "$place ${words[i]}" in
            %s) place="$place ${words[i]}" ;;
        esac
    done
    case "$place" in
`, steps(places))
	for _, p := range places {
		fmt.Fprintf(&b, "        %q)\n            commands=(%s)\n            flags=(%s) ;;\n", p.path, described(p.words), described(p.flags))
	}
	b.WriteString(`    esac
    if [[ "$PREFIX" == -* ]]; then
        _describe 'flag' flags
    elif (( $#commands )); then
        _describe 'command' commands
    else
        _files
    fi
}
if [[ "$funcstack[1]" == _countersign ]]; then
    _countersign "$@"
else
    compdef _countersign countersign
fi
`)
	return b.String()
}

func described(words []word) string {
	var out []string
	for _, w := range words {
		out = append(out, "'"+strings.TrimSuffix(w.text+":"+w.help, ":")+"'")
	}
	return strings.Join(out, " ")
}

func fishCompletion(places []place) string {
	var b strings.Builder
	b.WriteString("# fish completion for countersign\nfunction __countersign_place\n    set -l place countersign\n")
	b.WriteString("    for word in (commandline -opc)[2..-1]\n        switch \"$place $word\"\n            case ")
	b.WriteString(strings.ReplaceAll(steps(places), "|", " "))
	b.WriteString("\n                set place \"$place $word\"\n        end\n    end\n    echo $place\nend\n")
	for _, p := range places {
		at := fmt.Sprintf(`complete -c countersign -n '[ (__countersign_place) = "%s" ]'`, p.path)
		for _, w := range p.words {
			fmt.Fprintf(&b, "%s -f -a %s -d '%s'\n", at, w.text, w.help)
		}
		for _, w := range p.flags {
			fmt.Fprintf(&b, "%s -l %s -d '%s'\n", at, strings.TrimPrefix(w.text, "--"), w.help)
		}
	}
	return b.String()
}
