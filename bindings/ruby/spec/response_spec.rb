# frozen_string_literal: true

RSpec.describe "A response" do
  Serving::WAYS.each do |way|
    context "with #{way[:mode]} and #{way[:dispatch]}" do
      include_context "each way", way

      def answers_of(app, *paths)
        serve(app) do |server|
          Client.open(server.port) do |client|
            return paths.map do |path|
              client.get(path)
              client.answer
            end
          end
        end
      end

      it "has a field for each of several values" do
        array, lines = answers_of(Apps::Headers, "/array", "/lines")
        expect(array.all("x-a")).to eq %w[one two]
        expect(array.all("set-cookie")).to be_empty
        expect(lines.all("x-a")).to eq %w[one two]
      end

      it "has what is no string by to_s" do
        objects, pairs = answers_of(Apps::Headers, "/objects", "/pairs")
        expect(objects.all("x-a")).to eq %w[5]
        expect(objects.all("x-b")).to eq [""]
        expect(objects.all("x-c")).to eq %w[1.5 two]
        expect([pairs["x-a"], pairs["x-b"]]).to eq %w[one 2]
      end

      it "has as many fields as the app likes" do
        many, = answers_of(Apps::Headers, "/many")
        expect(Array.new(200) { many["x-#{_1}"] }).to eq(Array.new(200) { "v#{_1}" })
      end

      it "does not send what is meant for the server" do
        answer, = answers_of(Apps::Headers, "/rack")
        expect(answer["x-a"]).to eq "one"
        expect(answer["rack.anything"]).to be_nil
      end

      it "keeps bytes as they are" do
        answer, = answers_of(Apps::Headers, "/bytes")
        expect(answer["x-a"].b).to eq "ü".b
      end

      it "has the bytes of any body" do
        none, parts, each, call, large =
          answers_of(Apps::Bodies, "/none", "/parts", "/each", "/call", "/large").map(&:body)
        expect(none).to eq ""
        expect(parts).to eq "one two thr\u00e9e".b + "\xFF".b
        expect(each).to eq "0 1 2 "
        expect(call).to eq "one two"
        expect(large).to eq "0123456789abcdef" * 65_536 * 4
      end

      Apps::Failing::WAYS.each do |path|
        it "is 500 when the app fails by #{path.delete_prefix('/')}, and the worker serves on" do
          statuses = nil
          errors = errors_of do
            statuses = answers_of(Apps::Failing, path, "/", path, "/").map(&:status)
          end
          expect(statuses).to eq [500, 200, 500, 200]
          expect(errors.scan(/apps\.rb:\d+:in/).size).to be >= 2
          expect(errors).not_to include "a worker died"
        end
      end

      Apps::Invalid::ANSWERS.each_key do |path|
        it "is 500 when the app returns #{path.delete_prefix('/')}, and the worker serves on" do
          statuses = nil
          errors = errors_of { statuses = answers_of(Apps::Invalid, path, "/").map(&:status) }
          expect(statuses).to eq [500, 200]
          expect(errors).to match(/\((TypeError|ArgumentError)\)/)
          expect(errors).not_to include "a worker died"
        end
      end

      # Path to status.
      {
        "/" => 200, "/raises" => 500, "/no-content" => 204, "/bad-status" => 500,
        "/bad-headers" => 500, "/unsendable" => 500, "/long" => 500
      }.each do |path, status|
        it "has its body closed once for #{path}" do
          Tempfile.create("closed") do |file|
            errors_of do
              serve(Apps::Closing) do |server|
                expect(Client.get(server.port, "#{path}?#{file.path}").status).to eq status
              end
            end
            expect(File.read(file.path)).to eq "closed\n"
          end
        end
      end

      it "has its body closed once for HEAD" do
        Tempfile.create("closed") do |file|
          serve(Apps::Closing) do |server|
            Client.open(server.port) do |client|
              client.request("HEAD", "/?#{file.path}")
              expect(client.answer(head_only: true).status).to eq 200
            end
          end
          expect(File.read(file.path)).to eq "closed\n"
        end
      end
    end
  end
end
