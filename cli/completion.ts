/**
 * `portico completion`: prints a shell script generated from the command tree. A place in the tree is the sequence of
 * commands typed so far, joined by spaces. The script walks to that place and offers the words that may follow. It does
 * not complete values.
 */
import { Argument, type Command } from "commander";

/** The words that may follow each place. */
export type Places = Map<string, string[]>;

const SHELLS: Record<string, (places: Places) => string> = { bash, zsh, fish };

export function addCompletion(program: Command): void {
  program
    .command("completion")
    .description("print a script that completes commands and flags in your shell")
    .addArgument(new Argument("<shell>", "the shell").choices(Object.keys(SHELLS)))
    .addHelpText(
      "after",
      "\nExample:\n  $ alias portico='npx portico'\n  $ source <(npx portico completion bash)\n(zsh: the same; fish: npx portico completion fish | source)",
    )
    .action((shell: string) => {
      process.stdout.write(SHELLS[shell]?.(placesOf(program)) ?? "");
    });
}

export function placesOf(command: Command, above: string[] = [], flagsAbove: string[] = ["--help"]): Places {
  const flags = [...flagsAbove, ...command.options.map((option) => option.long ?? "")];
  const subs = command.commands.flatMap((sub) => [sub.name(), ...sub.aliases()].map((name) => ({ name, sub })));
  const choices = command.registeredArguments.flatMap((argument) => argument.argChoices ?? []);
  const here: Places = new Map([[above.join(" "), [...subs.map(({ name }) => name), ...choices, ...flags]]]);
  const below = subs.flatMap(({ name, sub }) => [...placesOf(sub, [...above, name], flags)]);
  return new Map([...here, ...below]);
}

/** Every place but the root, as a shell pattern for `place-before word`. */
const steps = (places: Places, between: string) =>
  [...places.keys()]
    .filter((place) => place !== "")
    .map((place) => (place.includes(" ") ? `"${place}"` : `" ${place}"`))
    .join(between);

const cases = (places: Places, each: (place: string, words: string) => string) =>
  [...places].map(([place, words]) => each(place, words.join(" "))).join("\n");

function bash(places: Places): string {
  return `_portico() {
  local place="" word words=""
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$place $word" in
      ${steps(places, "|")}) place="\${place:+$place }$word" ;;
    esac
  done
  case "$place" in
${cases(places, (place, words) => `    "${place}") words="${words}" ;;`)}
  esac
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _portico portico
`;
}

function zsh(places: Places): string {
  return `_portico() {
  local place="" word
  local -a choices
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$place $word" in
      ${steps(places, "|")}) place="\${place:+$place }$word" ;;
    esac
  done
  case "$place" in
${cases(places, (place, words) => `    "${place}") choices=(${words}) ;;`)}
  esac
  compadd -a choices || _files
}
compdef _portico portico
`;
}

function fish(places: Places): string {
  return `function __portico_words
  set -l place ""
  for word in (commandline -opc)[2..-1]
    switch "$place $word"
      case ${steps(places, " ")}
        set place (string trim -- "$place $word")
    end
  end
  switch "$place"
${cases(places, (place, words) => `    case "${place}"\n      printf '%s\\n' ${words}`)}
  end
end
complete -c portico -a "(__portico_words)"
`;
}
