#!/bin/sh
# curl that does what the next line of the file `answers` says, an exit code and its words, in the folder of the link it is
# called by; after the last line it stops who calls it.
cd "$(dirname "$0")" || exit 1
read -r code said < answers
sed -i 1d answers
[ -s answers ] || touch stop
echo "$said"
exit "$code"
