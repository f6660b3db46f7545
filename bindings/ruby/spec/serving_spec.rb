# frozen_string_literal: true

# What every mode and dispatch does alike, with Rack::Lint around each app.
RSpec.describe Kino::Server do
  Serving::WAYS.each do |way|
    context "with #{way[:mode]} and #{way[:dispatch]}" do
      include_context "each way", way

      def lint(app) = Rack::Lint.new(app)

      it "answers" do
        serve(lint(Apps::Hello)) do |server|
          answer = Client.get(server.port, "/")
          expect(answer.status).to eq 200
          expect(answer.body).to eq "Hello"
          expect(answer["content-type"]).to eq "text/plain"
          expect(answer["content-length"]).to eq "5"
        end
      end

      it "keeps a connection for the next request" do
        serve(lint(Apps::Hello)) do |server|
          Client.open(server.port) do |client|
            3.times do
              client.get("/")
              expect(client.answer.body).to eq "Hello"
            end
          end
        end
      end

      it "answers pipelined requests in order" do
        serve(lint(Apps::Echo)) do |server|
          Client.open(server.port) do |client|
            100.times { client.request("POST", "/", body: _1.to_s) }
            expect(Array.new(100) { client.answer.body }).to eq Array.new(100, &:to_s)
          end
        end
      end

      it "closes the connection when the client asks for it" do
        serve(lint(Apps::Hello)) do |server|
          Client.open(server.port) do |client|
            client.get("/", "Connection: close")
            expect(client.answer["connection"]).to eq "close"
            expect(client).to be_closed
          end
        end
      end

      it "hands over a body of a known length" do
        serve(lint(Apps::Echo)) do |server|
          Client.open(server.port) do |client|
            client.request("POST", "/", body: "a\0\xFFb".b)
            expect(client.answer.body).to eq "a\0\xFFb".b
          end
        end
      end

      it "hands over a chunked body" do
        serve(lint(Apps::Echo)) do |server|
          Client.open(server.port) do |client|
            client.request("POST", "/", "Transfer-Encoding: chunked")
            client.write("3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
            expect(client.answer.body).to eq "abcdefg"
          end
        end
      end

      it "reads a body by lines and pieces" do
        serve(lint(Apps::Echo)) do |server|
          Client.open(server.port) do |client|
            bodies = %w[/gets /each /pieces].to_h do |path|
              client.request("POST", path, body: "one\ntwo\nthree")
              [path, client.answer.body]
            end
            expect(bodies).to eq("/gets" => "one\n|two\n", "/each" => "one\n|two\n|three",
                                 "/pieces" => "one|\ntw|o\nthree")
          end
        end
      end

      it "hands over an empty input where there is no body" do
        serve(lint(Apps::Echo)) do |server|
          bodies = %w[/ /gets /each /pieces].map { Client.get(server.port, _1).body }
          expect(bodies).to eq ["", "", "", ""]
        end
      end

      it "sends no body to HEAD, but its length" do
        app = lint(Rack::Head.new(Apps::Hello))
        serve(app) do |server|
          Client.open(server.port) do |client|
            client.request("HEAD", "/")
            expect(client.answer(head_only: true).status).to eq 200
            client.get("/")
            expect(client.answer.body).to eq "Hello"
          end
        end
      end
    end
  end
end
