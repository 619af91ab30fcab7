#!/bin/sh
# Makes a picture and a sound, and shows a cache hit, using only curl. While `npm start` is running:
#
#   sh examples/curl.sh
set -eu

folder=${STATE_DIR:-.portico}
value() { sed -n "s/.*\"$1\": *\"\([^\"]*\)\".*/\1/p" "$folder/dev.json" | head -n 1; }
url=$(value url)
key=$(value api_key)

echo "picture, in OpenAI's words:"
curl -sSf "$url/v1/images/generations" -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
  -d '{"model":"portrait","prompt":"a lighthouse","size":"512x512","response_format":"url"}'
echo

echo "sound:"
curl -sSf "$url/v1/audio/speech" -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
  -d '{"model":"cosyvoice2","voice":"default","input":"Hello from your own card.","response_format":"wav"}' \
  -o "$folder/hello.wav"
echo "$folder/hello.wav"

echo "the same picture twice, in the origin's own words: the second comes from the cache"
for _ in 1 2; do
  curl -sSf "$url/sdapi/v1/txt2img" -H "Authorization: Bearer $key" -H "Content-Type: application/json" \
    -d '{"prompt":"a lighthouse","seed":42,"width":512,"height":512,"steps":8}' \
    -o "$folder/lighthouse.json" -D - | grep -i '^cache-status:'
done
