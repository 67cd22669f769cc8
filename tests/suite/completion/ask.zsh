# Types $LINE and a tab into a zsh of its own, and prints what that would offer, a line each.
zmodload zsh/zpty || exit
zpty z zsh -f -i
tell() { zpty -w z "$1"; }
tell 'PROMPT= PS2= ; unsetopt zle_bracketed_paste; stty -echo -onlcr'
tell 'fpath=($FOLDER $fpath); autoload -Uz compinit; compinit -u -d $HOME/.zcompdump; zstyle ":completion:*" insert-tab false'
# Each match is told instead of shown; what compadd is asked to do for others it does.
tell 'compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
  local -a hits; builtin compadd -A hits "$@"
  local -A given; zparseopts -E -A given P: S: p: i: W: 2>/dev/null
  local hit; for hit in $hits; do print -r -- "HIT:${given[-p]}$hit"; done
  builtin compadd "$@"
}'
tell 'first() { print BEGIN }; last() { print END; exit }; compprefuncs=(first); comppostfuncs=(last)'
tell 'print READY'
while zpty -r z line; do [[ $line == *READY* && $line != *print* ]] && break; done
zpty -wn z "$LINE"$'\t'
while zpty -r z line; do
    line=${line//$'\r'/}
    line=${line%$'\n'}
    [[ $line == *END* ]] && break
    [[ $line == *HIT:* ]] && print -r -- ${line##*HIT:}
done
zpty -d z
exit 0
